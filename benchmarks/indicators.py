"""Which early signs hold on runs that they were not chosen on: found, how far ahead, how often for nothing.

Every run of `benchmarks.indicator_runs` is judged by each indicator as a rule of our language, by the replay
and so by what judges a live run. An indicator that pack:td3 ships is judged as it is shipped; the others
stand in `indicators.toml`. What is shipped may raise no false alarm here.

    python -m benchmarks.indicators [--runs DIR] [--json] [--write docs/detection.md]

**Harm** is the first point at which mean actor Q or mean Q1 is above 50 or twice the greatest of that task's
healthy runs, whichever is more; or as far below. A lead is counted to there, in steps.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.detection_tables import Table, show, write
from benchmarks.indicator_runs import OUT, Run, plan
from rules.alert import AlertState
from sentinel.config import load
from sentinel.discover import scan
from sentinel.replay import replay_paths
from sentinel.tail import RunTail

RULES = Path(__file__).with_name("indicators.toml")
LEAST_HARM = 50.0
INDICATORS = {
    "above_q1_max": "mean actor Q > greatest Q1 on replay",
    "gap_over_error": "actor Q - Q1 > 5 x TD error, and > 1",
    "grows_alone": "actor Q x 1.5 in 100 steps, Q1 flat, gap > 3 x TD error",
    "above_target_max": "mean actor Q > greatest target",
    "twins_part": "|Q1 - Q2| on the policy's actions > 5 x on replay",
    "encoder_carries_gradient": "actor's gradient: encoder > 100 x MLP",
    "features_grown": "feature norm: actor's > 3 x critics'",
    "saturated": "saturated actions >= 95 %",
    "above_return_bound": "greatest actor Q > return bound",
    "above_50": "actor Q > 50",
    "episodes_halve": "episodes half as long as at first",
    "td3/actor_exploits_critic": "the pack's critical rule",
}
"""Key of the rule -> what it says. `td3/…` is shipped."""
FAULTS = {"leak": "leak", "unbounded": "unbounded action", "hot": "both Qs together"}


@dataclass(frozen=True, slots=True)
class Judged:
    """One recorded run.

    Attributes:
        run: which. harm: the step of its harm, None if it came to none. last: its last step.
        fired: indicator -> the step at which it first fired, None if it did not; without those that the run
            logs nothing for.
    """

    run: Run
    harm: int | None
    last: int
    fired: dict[str, int | None] = field(default_factory=dict)

    def lead(self, indicator: str) -> int | None:
        """Steps from the indicator to the harm, negative where it came after."""
        fired = self.fired.get(indicator)
        return None if fired is None or self.harm is None else self.harm - fired


def judge_all(folder: Path) -> list[Judged]:
    """Judge every run of the plan that is in the folder.

    Raises:
        FileNotFoundError: none is.
    """
    runs = [run for run in plan() if (folder / run.name).is_dir()]
    if not runs:
        raise FileNotFoundError(
            f"{folder} holds no recorded run; python -m benchmarks.indicator_runs makes them"
        )
    values = {run: _values(folder / run.name) for run in runs}
    settings = load(RULES)
    judged = []
    for run in runs:
        highest = [max(q for _, q in values[r]) for r in runs if r.healthy and r.task == run.task]
        lowest = [min(q for _, q in values[r]) for r in runs if r.healthy and r.task == run.task]
        above = max(LEAST_HARM, *(2 * q for q in highest)) if highest else LEAST_HARM
        below = min(-LEAST_HARM, *(2 * q for q in lowest)) if lowest else -LEAST_HARM
        harm = next((step for step, q in values[run] if not below <= q <= above), None)
        (outcome,) = replay_paths([folder / run.name], settings)
        fired: dict[str, int | None] = {
            key: None for key in INDICATORS if "logs nothing" not in outcome.unjudged.get(key, "")
        }
        for step in outcome.steps:
            moved = step.observation.transition
            if moved is not None and moved.after is AlertState.FIRING:
                key = step.observation.key
                if key in fired and fired[key] is None:
                    fired[key] = moved.at.run_step
        judged.append(Judged(run, harm, values[run][-1][0], fired))
    return judged


def _values(folder: Path) -> list[tuple[int, float]]:
    """(step, value) of mean actor Q and mean Q1, in the order logged."""
    return [
        (step, value)
        for chunks, _ in RunTail(folder).to_the_end(scan(folder)["."].event_files)
        for chunk in chunks
        for tag, step, _, value in chunk.samples
        if tag in ("debug/actor_q_mean", "debug/q1_mean")
    ]


# -- tables --------------------------------------------------------------------------------------------


def fault_table(judged: Sequence[Judged]) -> Table:
    """Each indicator: found of those that came to harm, with its leads, and false alarms."""
    rows: list[tuple[str, ...]] = []
    healthy = [one for one in judged if one.run.healthy]
    for key, says in INDICATORS.items():
        cells = [_found(_of(judged, kind), key) for kind in FAULTS]
        rows.append((f"{says}{' *' * ('/' in key)}", *cells, _alarms(healthy, key)))
    return Table(
        "Early indicators on runs that they were not chosen on",
        ("indicator", *FAULTS.values(), "false alarms"),
        rows,
        "Found before the harm or at it / runs that came to harm and log what is asked for; then the median "
        "lead to the harm (and the least) in steps. False alarms: healthy runs with one / healthy runs. "
        "*: a rule of pack:td3.",
    )


def who_table(judged: Sequence[Judged]) -> Table:
    """Each indicator by implementation and algorithm: leaks that were found, and false alarms."""
    whose = list(dict.fromkeys((one.run.who, one.run.algorithm) for one in judged))
    rows: list[tuple[str, ...]] = []
    for key, says in INDICATORS.items():
        cells = []
        for who in whose:
            mine = [one for one in judged if (one.run.who, one.run.algorithm) == who]
            leak = _of(mine, "leak")
            found, of = _counts(leak, key)
            alarms = _alarms([one for one in mine if one.run.healthy], key)
            cells.append(f"{found}/{of}; {alarms}" if of else f"-; {alarms}")
        rows.append((says, *cells))
    heads = tuple(f"{algorithm.upper()} ({'SB3' if who == 'sb3' else 'ours'})" for who, algorithm in whose)
    return Table("The same by algorithm: leaks found; false alarms", ("indicator", *heads), rows)


def runs_table(judged: Sequence[Judged]) -> Table:
    """What was recorded, and what became of it."""
    rows: list[tuple[str, ...]] = []
    for group in dict.fromkeys((o.run.who, o.run.algorithm, o.run.task, o.run.kind) for o in judged):
        ones = [o for o in judged if (o.run.who, o.run.algorithm, o.run.task, o.run.kind) == group]
        harms = [o.harm for o in ones if o.harm is not None]
        who, algorithm, task, kind = group
        at = ", ".join(str(harm) for harm in harms) or "-"
        who = "SB3" if who == "sb3" else "ours"
        rows.append((who, algorithm.upper(), task, kind, str(len(ones)), f"{len(harms)}", at))
    return Table("The recorded runs", ("who", "algorithm", "task", "kind", "runs", "harmed", "at step"), rows)


def _of(judged: Sequence[Judged], kind: str) -> list[Judged]:
    return [one for one in judged if one.run.kind == kind]


def _counts(ones: Iterable[Judged], key: str) -> tuple[int, int]:
    asked = [one for one in ones if one.harm is not None and key in one.fired]
    leads = [lead for one in asked if (lead := one.lead(key)) is not None]
    return sum(lead >= 0 for lead in leads), len(asked)


def _found(ones: Sequence[Judged], key: str) -> str:
    found, of = _counts(ones, key)
    leads = [lead for one in ones if (lead := one.lead(key)) is not None]
    if not of:
        return "n/a"
    return f"{found}/{of}" + (f", {median(leads):.0f} ({min(leads)})" if leads else "")


def _alarms(healthy: Sequence[Judged], key: str) -> str:
    asked = [one for one in healthy if key in one.fired]
    return f"{sum(one.fired[key] is not None for one in asked)}/{len(asked)}" if asked else "n/a"


# -- the command ---------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge and print; 1 where a shipped indicator has a false alarm, 2 where there is nothing to judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=OUT, help=f"the recorded runs (default {OUT})")
    parser.add_argument("--json", action="store_true", help="every run as one object")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables between a page's markers")
    options = parser.parse_args(arguments)
    try:
        judged = judge_all(options.runs)
    except OSError as error:
        print(f"indicators: {error}", file=sys.stderr)
        return 2
    shown = [fault_table(judged), who_table(judged), runs_table(judged)]
    if options.json:
        print(json.dumps([asdict(one) for one in judged]))
    else:
        for table in shown:
            show(table)
    if options.write:
        write(options.write, "indicators", shown)
    false = [
        f"{one.run.name}: {key} at step {one.fired[key]}"
        for one in judged
        for key in INDICATORS
        if one.run.healthy and "/" in key and one.fired.get(key) is not None
    ]
    for line in false:
        print(f"false alarm: {line}", file=sys.stderr)
    return 1 if false else 0


if __name__ == "__main__":
    sys.exit(main())
