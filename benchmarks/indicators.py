"""Which early signs hold on runs that they were not chosen on: found, how far ahead, how often for nothing.

Every run of `benchmarks.indicator_runs` is judged by each indicator as a rule of our language, by the replay
and so by what judges a live run. An indicator that pack:td3 ships is judged as it is shipped; the others
stand in `indicators.toml`. What is shipped may raise no false alarm here.

    python -m benchmarks.indicators [--runs DIR] [--corpus DIR] [--json] [--write docs/detection.md]

**Harm** is the first point at which mean actor Q or mean Q1 is above 50 or twice the greatest of that task's
healthy runs, whichever is more; or as far below. A lead is counted to there, in steps.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.detection_corpus import EXPLOSION, labelled
from benchmarks.detection_tables import Table, show, write
from benchmarks.indicator_runs import OUT, Run, plan
from rules.alert import AlertState
from rules.coverage import coverage
from rules.generators import FAMILIES, Setting, draw
from rules.watch import RunWatch
from sentinel.config import Settings, load
from sentinel.discover import scan
from sentinel.replay import replay_paths
from sentinel.tail import RunTail

Point = dict[str, float]
"""Tag -> value, of one step."""
RULES = Path(__file__).with_name("indicators.toml")
LEAST_HARM = 50.0
GENERATED_SEEDS, GENERATED_POINTS = range(6), 465
INDICATORS = {
    "td3/actor_q_above_data": "mean actor Q > greatest Q1 on replay",
    "gap_over_error": "actor Q - Q1 > 5 x TD error, and > 1",
    "grows_alone": "actor Q x 1.5 in 100 steps, Q1 flat, gap > 3 x TD error",
    "td3/actor_q_above_targets": "mean actor Q > greatest target",
    "td3/twins_disagree": "|Q1 - Q2| on the policy's actions > 5 x on replay",
    "td3/encoder_carries_gradient": "actor's gradient: encoder > 100 x MLP",
    "features_grown": "feature norm: actor's > 3 x critics'",
    "saturated": "saturated actions >= 95 %",
    "above_return_bound": "greatest actor Q > return bound",
    "above_50": "actor Q > 50",
    "episodes_halve": "episodes half as long as at first",
    "td3/actor_exploits_critic": "the pack's critical rule",
}
"""Key of the rule -> what it says. `td3/…` is shipped."""
RECORDED = "recorded"
RELATIONS: dict[str, Callable[[Point], float]] = {
    "mean actor Q - greatest Q1": lambda at: at["debug/actor_q_mean"] - at["debug/q1_max"],
    "mean actor Q - greatest target": lambda at: at["debug/actor_q_mean"] - at["debug/target_q_max"],
    "twin gap, policy / replay": lambda at: at["debug/twin_gap_policy"] / at["debug/twin_gap_replay"],
    "actor's gradient, encoder / MLP": lambda at: (
        at["gradients/actor_encoder_norm"] / at["gradients/actor_mlp_norm"]
    ),
    "feature norm, actor's / critics'": lambda at: (
        at["debug/actor_feature_norm"] / at["debug/critic_feature_norm"]
    ),
    "saturated actions": lambda at: at["debug/action_saturation"],
}
"""What the indicators look at, from the scalars of one step: for the ranges of docs/metrics.md."""
LACKING = ("the run logs nothing for", "it is not for this run")
"""How a replay begins to say that a rule could not have fired."""
FAULTS = {"leak": "leak", "unbounded": "unbounded action", "hot": "both Qs together"}


@dataclass(frozen=True, slots=True)
class Judged:
    """One recorded run.

    Attributes:
        run: which; of a corpus, `who` is RECORDED, and the project stands for the algorithm.
        harm: the step of its harm, None if it came to none.
        fired: indicator -> the step at which it first fired, None if it did not; without those that the run
            logs nothing for.
    """

    run: Run
    harm: int | None
    fired: dict[str, int | None] = field(default_factory=dict)

    def lead(self, indicator: str) -> int | None:
        """Steps from the indicator to the harm, negative where it came after."""
        fired = self.fired.get(indicator)
        return None if fired is None or self.harm is None else self.harm - fired


def judge_all(folder: Path, corpus: Path | None = None) -> list[Judged]:
    """Judge every run of the plan that is in the folder, and the explosions and healthy runs of a corpus.

    Raises:
        FileNotFoundError: there is none in the folder. OSError: the corpus has no labels.csv.
    """
    runs = [run for run in plan() if (folder / run.name).is_dir()]
    if not runs:
        raise FileNotFoundError(
            f"{folder} holds no recorded run; python -m benchmarks.indicator_runs makes them"
        )
    settings = load(RULES)
    values = {run: _values(folder / run.name) for run in runs}
    judged = []
    for run in runs:
        well = [q for r in runs if r.healthy and r.task == run.task for _, q in values[r]]
        above, below = max([LEAST_HARM, *(2 * q for q in well)]), min([-LEAST_HARM, *(2 * q for q in well)])
        harm = next((step for step, q in values[run] if not below <= q <= above), None)
        judged.append(Judged(run, harm, _fired(folder / run.name, settings)))
    for name, project, label in labelled(corpus) if corpus else ():
        path = corpus / name if corpus else Path()
        run = Run(RECORDED, project, name, "leak" if label == EXPLOSION else "stock", 0)
        harm = next((step for step, q in _values(path) if q > LEAST_HARM), None)
        judged.append(Judged(run, harm, _fired(path, settings)))
    return judged


def generated() -> dict[str, tuple[int, int]]:
    """Judge healthy generated value curves: indicator -> runs in which it fired, of how many that log it."""
    settings = load(RULES)
    alarms, asked = Counter[str](), Counter[str]()
    for family in FAMILIES.values():
        if not family.healthy or family.area != "value":
            continue
        for seed in GENERATED_SEEDS:
            samples = draw(family, Setting(seed, GENERATED_POINTS, 50)).samples()
            watch = RunWatch(settings.program, settings.rules.ladders)
            seen = [*watch.observe(samples), *watch.flush()]
            fired = {one.key for one in seen if one.transition and one.transition.after is AlertState.FIRING}
            blind = {
                s.rule
                for s in coverage(settings.program, list(watch.tags))
                if s.sight in ("blind", "inapplicable")
            }
            asked.update(key for key in INDICATORS if key not in blind)
            alarms.update(key for key in INDICATORS if key in fired)
    return {key: (alarms[key], asked[key]) for key in INDICATORS}


def _fired(run: Path, settings: Settings) -> dict[str, int | None]:
    (outcome,) = replay_paths([run], settings)
    blind = {key for key, why in outcome.unjudged.items() if why.startswith(LACKING)}
    fired: dict[str, int | None] = {key: None for key in INDICATORS if key not in blind}
    for step in outcome.steps:
        moved = step.observation.transition
        if moved is not None and moved.after is AlertState.FIRING:
            key = step.observation.key
            if key in fired and fired[key] is None:
                fired[key] = moved.at.run_step
    return fired


def _values(folder: Path) -> list[tuple[int, float]]:
    """(step, value) of mean actor Q and mean Q1, by step."""
    tags = ("debug/actor_q_mean", "debug/q1_mean")
    return [(step, at[tag]) for step, at in points(folder).items() for tag in tags if tag in at]


def points(folder: Path) -> dict[int, Point]:
    """Read what a run logged, by step."""
    found: dict[int, Point] = {}
    for chunks, _ in RunTail(folder).to_the_end(scan(folder)["."].event_files):
        for chunk in chunks:
            for tag, step, _, value in chunk.samples:
                found.setdefault(step, {})[tag] = value
    return dict(sorted(found.items()))


# -- tables --------------------------------------------------------------------------------------------


def fault_table(judged: Sequence[Judged], drawn: Mapping[str, tuple[int, int]] | None = None) -> Table:
    """Each indicator: found of those that came to harm, with its leads, and false alarms."""
    rows: list[tuple[str, ...]] = []
    made = [one for one in judged if one.run.who != RECORDED]
    healthy = [one for one in made if one.run.healthy]
    recorded = _of([one for one in judged if one.run.who == RECORDED], "leak")
    for key, says in INDICATORS.items():
        cells = [_found(_of(made, kind), key) for kind in FAULTS]
        more = [_found(recorded, key)] if recorded else []
        alarms, asked = (drawn or {}).get(key, (0, 0))
        last = f"{alarms}/{asked}" if asked else "n/a"
        rows.append((f"{says}{' *' * ('/' in key)}", *cells, *more, _alarms(healthy, key), last))
    return Table(
        "Early indicators on runs that they were not chosen on",
        (
            "indicator",
            *FAULTS.values(),
            *(["recorded explosions"] if recorded else []),
            "false alarms",
            "generated",
        ),
        rows,
        "Found before the harm or at it / runs that came to harm and log what is asked for; then the median "
        "lead to the harm (and the least) in steps. False alarms: healthy runs with one / healthy runs; "
        "generated: the same of the healthy value curves above, seeds 0-5. *: a rule of pack:td3.",
    )


def who_table(judged: Sequence[Judged]) -> Table:
    """Each indicator by fault and algorithm: found, and its leads; no row for a fault that it never finds."""
    whose = _whose(judged)
    rows: list[tuple[str, ...]] = []
    for key, says in INDICATORS.items():
        for kind, fault in FAULTS.items():
            cells = [_found(_of(mine, kind), key) for mine in whose.values()]
            if _counts(_of(judged, kind), key)[0]:
                rows.append((says, fault, *cells))
    return Table("Found, by fault and algorithm", ("indicator", "fault", *whose), rows, "As above.")


def alarms_table(judged: Sequence[Judged]) -> Table:
    """Each indicator: healthy runs with a false alarm, by algorithm and by task."""
    healthy = [one for one in judged if one.run.healthy and one.run.who != RECORDED]
    columns = _whose(healthy)
    for task in dict.fromkeys(one.run.task for one in healthy):
        columns[task] = [one for one in healthy if one.run.task == task]
    rows = [(says, *(_alarms(some, key) for some in columns.values())) for key, says in INDICATORS.items()]
    note = "Healthy runs with a false alarm / healthy runs: first by algorithm, then the same by task."
    return Table("False alarms, by algorithm and by task", ("indicator", *columns), rows, note)


def _whose(judged: Iterable[Judged]) -> dict[str, list[Judged]]:
    """What was made here, by head of a column."""
    found: dict[str, list[Judged]] = {}
    for one in judged:
        if one.run.who != RECORDED:
            who = "SB3" if one.run.who == "sb3" else "ours"
            found.setdefault(f"{one.run.algorithm.upper()} ({who})", []).append(one)
    return found


def ranges_table(judged: Sequence[Judged], folder: Path) -> Table:
    """Show what healthy runs have of what the indicators look at, by task."""
    rows: list[tuple[str, ...]] = []
    healthy = [one.run for one in judged if one.run.healthy and one.run.who != RECORDED]
    tasks = list(dict.fromkeys(run.task for run in healthy))
    read = {
        task: [at for r in healthy if r.task == task for at in points(folder / r.name).values()]
        for task in tasks
    }
    for name, relation in RELATIONS.items():
        cells = []
        for task in tasks:
            values: list[float] = []
            for at in read[task]:
                with contextlib.suppress(KeyError, ZeroDivisionError):  # not logged at this step
                    values.append(relation(at))
            shown = (min(values), median(values), max(values)) if values else ()
            cells.append(" … ".join(f"{value:.2g}" for value in shown) or "-")
        rows.append((name, *cells))
    note = "Least, median and greatest of all points after the warm-up."
    return Table("Healthy ranges", ("relation", *tasks), rows, note)


def runs_table(judged: Sequence[Judged]) -> Table:
    """What was recorded, and what became of it."""
    judged = [one for one in judged if one.run.who != RECORDED]
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
    known = os.environ.get("SENTINEL_CORPUS")
    parser.add_argument(
        "--corpus", type=Path, default=Path(known) if known else None, metavar="DIR",
        help="labelled recorded runs, for one more column (default: $SENTINEL_CORPUS, else none)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    try:
        judged = judge_all(options.runs, options.corpus)
    except OSError as error:
        print(f"indicators: {error}", file=sys.stderr)
        return 2
    shown = [
        fault_table(judged, generated()),
        who_table(judged),
        alarms_table(judged),
        ranges_table(judged, options.runs),
        runs_table(judged),
    ]
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
