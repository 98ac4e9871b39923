"""Why a rule fired in a recorded run, or why it did not: its history there, and its condition taken apart.

The run is judged by the same line as live and in a replay, up to the moment in question and no further, so
what is shown is what the rule saw then.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from rich.text import Text

from notifier.plot import Plot
from rules.alert import AlertState
from rules.explain import Part
from rules.schema import RuleSpec
from rules.source import nearest
from rules.tree import Compare
from rules.verdict import Condition, Mark
from rules.watch import Observation
from sentinel.attempts import Attempts
from sentinel.checkpoints import glance
from sentinel.config import Settings
from sentinel.curves import Curves
from sentinel.discover import CHECKPOINTS
from sentinel.errors import CommandError, RunGoneError
from sentinel.judge import Judge
from sentinel.plots import Scene, draw
from sentinel.replay import Recording, find, finite
from sentinel.story import in_words
from sentinel.tail import Chunk, RunTail
from sentinel.terminal import console_on

_SHOWN_MOVES = 20
_TEXT_WIDTH = 72


@dataclass(frozen=True, slots=True)
class Explanation:
    """What there is to say of one rule in one run.

    Attributes:
        run: its name. rule: as configured. key: the rule, or one instance of it; others: further instances.
        began: wall time of the run's first point, seconds since the epoch.
        moment: where it is taken apart, on the axis of `driver`. part: its condition then.
        badge: what kept it from being judged then: "", warming, nodata, error or the like.
        state: of its alert then. answers: how often it was True, False and unknown over the whole run.
        moves: its changes of state over the whole run. nearest: the evaluation that came closest to firing;
            only of a rule that is one comparison and was never True.
    """

    run: str
    rule: RuleSpec
    key: str
    others: tuple[str, ...]
    driver: str
    began: float
    moment: Mark
    part: Part
    badge: str
    state: AlertState
    answers: Mapping[Condition, int]
    moves: tuple[Observation, ...]
    nearest: Observation | None


def explain_rule(name: str, path: Path, settings: Settings, at: int | None = None) -> Explanation:
    """Judge a run and take one rule apart in it.

    Args:
        name: the rule's full name, an instance of an `each` rule (`rule[part]`), or what follows the slash
            where that is one rule's alone.
        path: the run's folder or one of its event files.
        at: step on the rule's own axis; None for its first firing, or the run's end where it never fired.

    Raises:
        CommandError: no such rule or instance, several runs below the path, or no evaluation by that step.
        RunGoneError: there is no event file.
    """
    spec, wanted = _find(name, settings)
    recording = _run(path)
    run, folder, files = recording.run, recording.folder, recording.files
    key, others = _instance(spec, wanted, settings, folder, files)
    traced = _judged(settings, folder, files, (key,))
    if key not in set(traced.watch.keys()):
        raise CommandError(
            f"{key}: no tag of {run} fits its pattern {spec.each!r}; there is nothing to explain"
        )
    trace = traced.trace
    moves = tuple(seen for seen in trace if seen.transition is not None)
    driver = traced.watch.driver(key)
    if at is None:
        fired = (seen for seen in moves if seen.alert.state is AlertState.FIRING)
        moment = next(fired, trace[-1] if trace else None)
    else:
        reached = [seen for seen in trace if seen.verdict.at.step <= at]
        if not reached:
            first = f"the first is at {trace[0].verdict.at.step}" if trace else "there is none at all"
            raise CommandError(f"{key}: no evaluation in {run} up to step {at} of {driver}; {first}")
        moment = reached[-1]
    until = moment.verdict.at.wall_time if moment is not None else math.inf
    then = _judged(settings, folder, files, (key,), until)
    now = until if moment is not None else _last_wall(folder, files)
    alert = then.watch.alerts.get(key)
    return Explanation(
        run,
        spec,
        key,
        others,
        driver,
        _first_wall(folder, files),
        moment.verdict.at if moment is not None else Mark(0, now, 0, then.watch.run_step),
        then.watch.explain(key, now),
        then.watch.marks()[key],
        alert.state if alert is not None else AlertState.INACTIVE,
        Counter(seen.verdict.condition for seen in trace),
        moves,
        _nearest(trace) if _is_one_comparison(spec, settings) else None,
    )


def plot_rule(told: Explanation, path: Path, settings: Settings) -> Plot | None:
    """Compose the plot of an explained rule: of the episode that was taken apart, to its end in the record.

    Returns:
        None where nothing that the rule names was logged.
    """
    recording = _run(path)
    judge = Judge(settings.program, settings.book, traced=(told.key,))
    judge.curves = Curves(settings.program)
    _feed(judge, recording.folder, recording.files)
    trace = judge.trace
    if not trace:
        return None
    here = next(
        (seen for seen in reversed(trace) if seen.verdict.at.wall_time <= told.moment.wall_time), trace[0]
    )
    number = here.alert.number if here.alert.state is not AlertState.INACTIVE else None
    episode = [seen for seen in trace if seen.alert.number == number] or trace
    last = next((seen for seen in episode if _closes(seen)), episode[-1])
    fired = next((seen.alert.fired for seen in episode if seen.alert.fired is not None), None)
    onset = next((seen.alert.onset for seen in episode if seen.alert.onset is not None), None)
    moved = last.transition
    folder = recording.folder
    scene = Scene(
        told.run,
        tuple(judge.ledger.rewinds),
        glance(folder / CHECKPOINTS),
        judge.ledger.suspicions(),
    )
    alert = replace(last.alert, fired=fired, onset=onset, limit=here.verdict.limit)
    ending = moved.reason if moved is not None and _closes(last) else ""
    return draw(
        judge.watch, judge.curves, alert, in_words(told.key), scene, now=last.verdict.at, ending=ending[:20]
    )


def _closes(seen: Observation) -> bool:
    return seen.transition is not None and seen.transition.after is AlertState.RESOLVED


def _find(name: str, settings: Settings) -> tuple[RuleSpec, str]:
    """Return the rule that is meant, and the whole key."""
    bare, bracket, rest = name.partition("[")
    rules = {rule.name: rule for rule in settings.rules.rules}
    meant = [bare] if bare in rules else [full for full in rules if full.rpartition("/")[2] == bare]
    if len(meant) == 1:
        return rules[meant[0]], f"{meant[0]}{bracket}{rest}"
    if meant:
        raise CommandError(f"{bare!r} is a rule of several packs: {', '.join(meant)}; say which")
    known = [*rules, *(full.rpartition("/")[2] for full in rules)]
    raise CommandError(f"no rule {bare!r}; {nearest(bare, known)}; `sentinel rules` lists them")


def _run(path: Path) -> Recording:
    found = find([path])
    if len(found) > 1:
        names = ", ".join(str(recording.folder) for recording in found[:6]) + ", …" * (len(found) > 6)
        raise CommandError(f"{path}: {len(found)} runs ({names}); name one, a rule is explained in one run")
    if found[0].error:
        raise RunGoneError(f"{path}: {found[0].error}")
    return found[0]


def _instance(
    spec: RuleSpec, wanted: str, settings: Settings, folder: Path, files: Sequence[Path]
) -> tuple[str, tuple[str, ...]]:
    """Return the instance that is meant (as named, else the first that fired, else any), and the others."""
    if spec.each is None or "[" in wanted:
        return wanted, ()
    judge = _judged(settings, folder, files, ())
    there = judge.watch.keys()
    keys = [key for key in there if key.partition("[")[0] == spec.name]
    if not keys:
        return wanted, ()
    fired = [key for key in keys if key in judge.watch.alerts]
    chosen = (fired or keys)[0]
    return chosen, tuple(key for key in keys if key != chosen)


def _judged(
    settings: Settings, folder: Path, files: Sequence[Path], traced: Sequence[str], until: float = math.inf
) -> Judge:
    """Judge a run's points up to a wall time."""
    judge = Judge(settings.program, settings.book, traced=traced)
    _feed(judge, folder, files, until)
    return judge


def _feed(judge: Judge, folder: Path, files: Sequence[Path], until: float = math.inf) -> None:
    attempts = Attempts(judge, (tail := RunTail(folder)))
    for chunk in _chunks(tail, files):
        if chunk.start is not None and chunk.start.wall_time > until:
            break
        kept = [sample for sample in chunk.samples if sample[2] <= until]
        attempts.take(Chunk(chunk.source, kept, chunk.start))
        if len(kept) < len(chunk.samples):
            break
    judge.flush()


def _chunks(tail: RunTail, files: Sequence[Path]) -> Iterator[Chunk]:
    for chunks, _ in tail.to_the_end(files):
        yield from chunks


def _first_wall(folder: Path, files: Sequence[Path]) -> float:
    walls = (sample[2] for chunk in _chunks(RunTail(folder), files) for sample in chunk.samples)
    return next(walls, 0.0)


def _last_wall(folder: Path, files: Sequence[Path]) -> float:
    walls = (sample[2] for chunk in _chunks(RunTail(folder), files) for sample in chunk.samples)
    return max(walls, default=0.0)


def _is_one_comparison(spec: RuleSpec, settings: Settings) -> bool:
    """Whether a single comparison is all that a rule asks; of several, the nearest would mislead."""
    return any(
        isinstance(rule.expr, Compare) for rule in settings.program.rules if rule.spec.name == spec.name
    )


def _nearest(trace: Sequence[Observation]) -> Observation | None:
    """Return the evaluation whose deciding value came closest to its limit, where none was ever beyond it."""
    if any(seen.verdict.condition is Condition.BREACH for seen in trace):
        return None
    compared = [seen for seen in trace if seen.verdict.value is not None and seen.verdict.limit is not None]
    return min(compared, key=_distance, default=None)


def _distance(seen: Observation) -> float:
    value, limit = seen.verdict.value, seen.verdict.limit
    assert value is not None
    assert limit is not None
    away = abs(value - limit) / max(abs(limit), 1e-12)
    return away if math.isfinite(away) else math.inf


# -- how it is told ------------------------------------------------------------


def as_json(told: Explanation) -> dict[str, Any]:
    """Render an explanation as one JSON-ready object."""
    return {
        "run": told.run,
        "rule": told.rule.name,
        "key": told.key,
        "severity": told.rule.severity,
        "axis": told.driver,
        "step": told.moment.step,
        "run_step": told.moment.run_step,
        "wall_time": told.moment.wall_time,
        "state": told.state.value,
        "badge": told.badge,
        "answers": {condition.value: count for condition, count in told.answers.items()},
        "transitions": [_move_as_json(seen) for seen in told.moves],
        "nearest": None if told.nearest is None else _verdict_as_json(told.nearest),
        "condition": _part_as_json(told.part),
    }


def _move_as_json(seen: Observation) -> dict[str, Any]:
    moved = seen.transition
    assert moved is not None
    return {
        "from": moved.before.value,
        "to": moved.after.value,
        "reason": moved.reason,
        **_verdict_as_json(seen),
    }


def _verdict_as_json(seen: Observation) -> dict[str, Any]:
    found = seen.verdict
    return {
        "step": found.at.step,
        "wall_time": found.at.wall_time,
        "value": finite(found.value),
        "limit": finite(found.limit),
    }


def _part_as_json(part: Part) -> dict[str, Any]:
    return {
        "text": part.text,
        "value": part.value if isinstance(part.value, bool) else finite(part.value),
        "note": part.note,
        "parts": [_part_as_json(inner) for inner in part.parts],
    }


def print_explanation(told: Explanation, out: TextIO, *, as_json_lines: bool = False) -> None:
    """Print an explanation for people, or as JSON."""
    if as_json_lines:
        print(json.dumps(as_json(told), allow_nan=False, indent=2), file=out)
        return
    console = console_on(out)
    for line in (*_head(told), *_history(told), "", *_taken_apart(told)):
        console.print(line)


def _head(told: Explanation) -> Iterator[Text]:
    rule = told.rule
    yield Text.assemble((told.key, "bold"), f"  {rule.severity}, in run {told.run}")
    if told.others:
        shown = ", ".join(told.others[:4]) + (", …" if len(told.others) > 4 else "")
        yield Text(f"  one of {len(told.others) + 1} instances; the others: {shown}")
    yield Text(f"  expr   {' '.join(rule.expr.split())}")
    for name, text in (("clear", rule.clear), ("why", rule.why), ("try", rule.try_)):
        if text:
            yield Text(f"  {name:<6} {' '.join(text.split())}")
    if rule.for_.amount:
        yield Text(f"  for    {rule.for_}")


def _history(told: Explanation) -> Iterator[Text]:
    counts = {condition: told.answers.get(condition, 0) for condition in Condition}
    asked = sum(counts.values())
    yield Text("")
    if not asked:
        yield Text("It was never evaluated in this run.")
        return
    yield Text(
        f"Evaluated {asked} times: {counts[Condition.BREACH]} True, {counts[Condition.OK]} False, "
        f"{counts[Condition.UNKNOWN]} unknown."
    )
    for seen in told.moves[:_SHOWN_MOVES]:
        moved = seen.transition
        assert moved is not None
        why = f"  ({moved.reason})" if moved.reason else ""
        onset = f", onset {moved.onset.step}" if moved.onset is not None else ""
        yield Text(
            f"  {_when(told, seen.verdict.at)}  {moved.before.value} -> {moved.after.value}{onset}{why}"
        )
    if len(told.moves) > _SHOWN_MOVES:
        yield Text(f"  … and {len(told.moves) - _SHOWN_MOVES} more changes")
    if not told.moves:
        yield Text("It never left its rest.")
    if told.nearest is not None:
        found = told.nearest.verdict
        against = f"{_number(found.value)} against {_number(found.limit)}"
        yield Text(f"Nearest to it: {against}, {_when(told, found.at)}.")


def _when(told: Explanation, at: Mark) -> str:
    return f"step {at.step} ({at.wall_time - told.began:.1f} s)"


def _taken_apart(told: Explanation) -> Iterator[Text]:
    badge = f"; {_BADGES.get(told.badge, told.badge)}" if told.badge else ""
    yield Text.assemble(
        (f"At {_when(told, told.moment)} of {told.driver}", "bold"), f": {told.state.value}{badge}"
    )
    seen: set[str] = set()
    lines = list(_lines(told.part, 0, seen))
    width = min(max(len(text) for text, _, _ in lines), _TEXT_WIDTH)
    for text, value, note in lines:
        shown = text if len(text) <= width else f"{text[: width - 1]}…"
        line = Text(f"  {shown:<{width}}  ")
        line.append(
            f"{_answer(value):<12}",
            style=_STYLES.get(value) if value is None or isinstance(value, bool) else "",
        )
        line.append(note, style="dim")
        yield line


def _lines(part: Part, depth: int, seen: set[str]) -> Iterator[tuple[str, float | bool | None, str]]:
    """Yield the parts, each indented; what has been taken apart once is not again."""
    known = bool(part.parts) and part.text in seen
    note = "as above" if known else part.note
    yield f"{'  ' * depth}{part.text}", part.value, note
    if part.parts and not known:
        seen.add(part.text)
        for inner in part.parts:
            yield from _lines(inner, depth + 1, seen)


_STYLES = {True: "bold red", False: "green", None: "yellow"}

_BADGES = {
    "warming": "it waits, by its own wish: after_step, after_points, after_time, grace or when",
    "inapplicable": "it is not for this run: its `when` has not been True so far",
    "nodata": "its answer is unknown",
    "error": "its evaluation failed",
}


def _answer(value: object) -> str:
    return _number(value) if isinstance(value, float) else "unknown" if value is None else str(value)


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.6g}"
