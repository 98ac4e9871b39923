"""Gates held against recorded runs: the same tail, judge and evaluator as live; nothing sent or remembered.

A run's judge and its gates are fed the same points in the same order, since a forbidden rule fires in the one
and a requirement is judged in the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rules.alert import AlertState
from rules.findings import Finding
from rules.gate import Ending, Fired, GateVerdict, GateWatch, Outcome, compile_gates, worst
from rules.series import Sample
from rules.source import nearest
from sentinel.attempts import Attempts
from sentinel.config import Settings
from sentinel.errors import ConfigError
from sentinel.judge import Judge, Step
from sentinel.registration import Registration
from sentinel.replay import Recording, find, finite
from sentinel.tail import Hurt, RunTail

EXIT_CODES: dict[GateVerdict, int] = {"pass": 0, "fail": 1, "inconclusive": 3}


class GatedJudge(Judge):
    """A judge whose run is held against gates as well.

    Attributes:
        gates: they see what the judge sees; None leaves everything as it is.
    """

    gates: GateWatch | None = None

    def samples(self, samples: Sequence[Sample], source: int) -> list[Step]:
        """Judge new samples of one event file, in file order."""
        if self.gates is not None:
            self.gates.feed(samples, source)
        return self._told(super().samples(samples, source))

    def silence(self, now: float) -> list[Step]:
        """Judge the passing of time up to `now` (wall time, seconds)."""
        return self._told(super().silence(now))

    def flush(self) -> list[Step]:
        """Close open ticks: no further point belongs to them."""
        if self.gates is not None:
            self.gates.flush()
        return self._told(super().flush())

    def rewind(
        self, to_step: int, at_wall: float, history: Iterable[tuple[int, Sequence[Sample]]]
    ) -> list[Step]:
        """Begin a new attempt, of the gates' windows too."""
        if self.gates is not None:
            history = list(history)
            self.gates.rewind(history)
        return self._told(super().rewind(to_step, at_wall, history))

    def warm(self, samples: Sequence[Sample], source: int) -> None:
        """Fill the windows from samples that were judged before; a gate without a verdict looks again."""
        if self.gates is not None:
            self.gates.feed(samples, source)
        super().warm(samples, source)

    def _told(self, steps: list[Step]) -> list[Step]:
        """Tell the gates of every rule that has begun to fire."""
        for step in steps:
            moved = step.observation.transition
            if self.gates is not None and moved is not None and moved.after is AlertState.FIRING:
                self.gates.fired(step.observation.rule, moved)
        return steps


@dataclass(frozen=True, slots=True)
class GateReport:
    """How one run stands before the gates.

    Attributes:
        run: its name. path: its folder.
        ending: what is known of its end. points: how many were read. outcomes: one a gate.
        hurt: what could not be read.
    """

    run: str
    path: Path
    ending: Ending
    points: int
    outcomes: tuple[Outcome, ...]
    hurt: tuple[Hurt, ...]

    @property
    def verdict(self) -> GateVerdict:
        """The worst of its gates."""
        return worst(outcome.verdict for outcome in self.outcomes)


def chosen_gates(settings: Settings, names: Sequence[str], *, everything: bool = False) -> list[str]:
    """Return the gates that were asked for; a name may hold several, parted by commas.

    Raises:
        ConfigError: there is no such gate, or none was asked for.
    """
    known = settings.rules.gates
    if everything:
        wanted = list(known)
    else:
        wanted = [name for text in names for name in text.replace(",", " ").split()]
    if not wanted:
        there = f"the rules have {', '.join(known)}" if known else "the rules have none: write a [[gate]]"
        raise ConfigError(f"no gate was named; {there}; nothing was judged")
    for name in wanted:
        if name not in known:
            raise ConfigError(f"no gate {name!r}; {nearest(name, known)}; nothing was judged")
    return list(dict.fromkeys(wanted))


def judge_paths(paths: Sequence[Path], settings: Settings, names: Sequence[str]) -> list[GateReport]:
    """Hold every run below the given paths against gates.

    Args:
        paths: event files, run folders or trees of them.
        settings: the rules and gates. names: of gates, all known; see `chosen_gates`.

    Raises:
        RunGoneError: a path holds no event file.
    """
    return [_judge(recording, settings, names) for recording in find(paths)]


def _judge(recording: Recording, settings: Settings, names: Sequence[str]) -> GateReport:
    judge = GatedJudge(settings.program, settings.book)
    gates = judge.gates = GateWatch(compile_gates(settings.rules, names), names)
    tail = RunTail(recording.folder)
    attempts = Attempts(judge, tail)
    points = 0
    hurt = [Hurt(".", 0, 0, recording.error)] if recording.error else []
    for chunks, damage in tail.to_the_end(recording.files):
        hurt += [stretch for stretch in damage if stretch not in hurt]
        for chunk in chunks:
            points += len(chunk.samples)
            attempts.take(chunk)
    judge.flush()
    registration = Registration(recording.folder)
    registration.refresh()
    ending, ended_step = how_it_ended(registration)
    gates.end(ended_step)
    outcomes = tuple(gates.outcomes(ending))
    return GateReport(recording.run, recording.folder, ending, points, outcomes, tuple(hurt))


def how_it_ended(registration: Registration) -> tuple[Ending, int | None]:
    """Return what the trainer's guard left word of: how the run ended, and the step at which it finished."""
    if not registration.known:
        return "unknown", None
    if registration.finished:
        step = registration.heartbeat_step()
        match registration.outcome:
            case "failed":
                return "died", None
            case "terminated":
                return "terminated", step
            case _:
                return "finished", step
    if registration.alive:
        return "running", None
    return ("died", None) if registration.liveness.ended else ("unknown", None)


def exit_code(verdicts: Iterable[GateVerdict]) -> int:
    """Return the exit code of several gates: 1 where one failed, else 3 where one is inconclusive, else 0."""
    return EXIT_CODES[worst(verdicts)]


# -- for machines --------------------------------------------------------------


def reports_as_json(reports: Sequence[GateReport]) -> dict[str, Any]:
    """Render all runs as one JSON-ready object."""
    return {
        "verdict": worst(report.verdict for report in reports),
        "runs": [
            {
                "run": report.run,
                "path": str(report.path),
                "ending": report.ending,
                "points": report.points,
                "verdict": report.verdict,
                "gates": [outcome_as_json(outcome) for outcome in report.outcomes],
            }
            for report in reports
        ],
    }


def outcome_as_json(outcome: Outcome) -> dict[str, Any]:
    """Render one gate's outcome."""
    wall = outcome.at.wall_time
    return {
        "gate": outcome.gate.name,
        "verdict": outcome.verdict,
        "reason": outcome.reason,
        "certain": outcome.certain,
        "at": {"amount": outcome.gate.at.amount, "unit": outcome.gate.at.unit},
        "reached": outcome.reached,
        "step": outcome.at.run_step,
        "wall_time": wall if math.isfinite(wall) else None,
        "needs": dict(outcome.needs),
        "forbidden": [_fired_as_json(fired) for fired in outcome.forbidden],
        "requirements": [_finding_as_json(finding) for finding in outcome.findings],
    }


def _fired_as_json(fired: Fired) -> dict[str, Any]:
    return {
        "rule": fired.key,
        "severity": fired.severity,
        "step": fired.at.run_step,
        "wall_time": fired.at.wall_time,
        "value": finite(fired.value),
        "limit": finite(fired.limit),
    }


def _finding_as_json(finding: Finding) -> dict[str, Any]:
    return {
        "expr": finding.text,
        "holds": finding.answer,
        "value": finite(finding.value),
        "limit": finite(finding.limit),
        "points": finding.points,
        "t": finite(finding.t),
        "step": finding.step,
        "reason": finding.reason,
        "early_fail": finding.early_fail,
        "on_false": finding.on_false,
        "why": finding.why,
    }
