"""Gates of a run that is being watched: told once, remembered, and able to end a training that has failed.

A gate speaks when its verdict is certain, or when its run is over. Verdicts are kept in the journal in the
transaction in which they came to be, so a restart tells none of them twice; what has no verdict yet is worked
out again from the points.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from notifier.message import Message
from rules.gate import Ending, GateBook, GateVerdict, GateWatch, Outcome, compile_gates
from sentinel.config import Settings
from sentinel.gates import GatedJudge, chosen_gates, exit_code, how_it_ended
from sentinel.story import notice
from sentinel.trainer_link import TrainerLink

FRESH = 60.0
"""Seconds before its watch began from which on a point shows that a run is being trained now."""

_SEVERITIES: Mapping[GateVerdict, str] = {"pass": "info", "inconclusive": "info", "fail": "critical"}
_WORDS: Mapping[GateVerdict, str] = {"pass": "passed", "fail": "failed", "inconclusive": "is inconclusive"}
_ADVICE = "sentinel gate RUN --gate {name} shows every requirement with its numbers."


@dataclass(frozen=True, slots=True)
class GatePlan:
    """Which gates the watched runs are held against. `names`: those asked for, without what they need."""

    book: GateBook
    names: tuple[str, ...]

    @classmethod
    def of(cls, settings: Settings, wanted: Sequence[str]) -> GatePlan | None:
        """Make the plan of a command line; None where no gate was asked for.

        Raises:
            ConfigError: there is no such gate.
        """
        if not wanted:
            return None
        names = chosen_gates(settings, wanted)
        return cls(compile_gates(settings.rules, names), tuple(names))


class LiveGates:
    """The gates of one run.

    Attributes:
        trained: whether the run has had points since its watch began; an old run beside it has not.
        ended_it: whether the trainer was asked to end because of a gate.
    """

    def __init__(
        self, run: str, plan: GatePlan, judge: GatedJudge, before: Mapping[str, Any], now: float, *, act: bool
    ) -> None:
        """Begin.

        Args:
            run: its name. plan: the gates. judge: of the run; it feeds them from now on.
            before: what `body` returned to an earlier process. now: wall time, seconds since the epoch.
            act: whether a training is ended, or it is only told that it would be.
        """
        self._run = run
        self._plan = plan
        self._act = act
        self._since = now - FRESH  # clocks of trainer and sentinel need not agree to the second
        self._told: dict[str, dict[str, Any]] = {
            name: dict(body) for name, body in before.items() if name in plan.book.gates
        }
        self.trained = False
        self.ended_it = any(body.get("ended") for body in self._told.values())
        self._watch = judge.gates = GateWatch(plan.book, plan.names)

    def look(
        self, trainer: TrainerLink, *, last_wall: float | None, past: bool, over: bool, now: float
    ) -> list[Message]:
        """Take note of what has become certain.

        Args:
            trainer: is asked to end where a gate has failed.
            last_wall: of the run's newest point. past: the run was over before it was first seen.
            over: no more is to come, as far as one knows, and all points have been judged.

        Returns:
            what people are to be told, each once.
        """
        self.trained = self.trained or (last_wall is not None and last_wall >= self._since)
        settled = self._watch.settled()
        fresh = {name for name, verdict in settled.items() if self._verdict(name) != verdict}
        unsaid = any(name not in self._told for name in self._watch.names)
        if over and (fresh or unsaid):
            ending, step = how_it_ended(trainer.registration)
            self._watch.end(step)
            return self._tell(self._watch.outcomes(ending), trainer, now, past=past)
        if not fresh:
            return []
        found = [outcome for outcome in self._watch.outcomes("running") if outcome.gate.name in fresh]
        return self._tell(found, trainer, now, past=past)

    def close(self, trainer: TrainerLink, ending: Ending, now: float) -> list[Message]:
        """Settle every gate: the supervised job has ended, and no further point will come.

        Args:
            ending: how, as far as its exit code tells; the guard's own word goes before it.
        """
        said, step = how_it_ended(trainer.registration)
        self._watch.end(step)
        return self._tell(self._watch.outcomes(ending if said == "unknown" else said), trainer, now)

    def body(self) -> dict[str, dict[str, Any]]:
        """Return what is to be remembered, and shown by `sentinel status`: each gate with its verdict."""
        waiting = {"verdict": "waiting", "reason": ""}
        return {
            name: {**self._told.get(name, waiting), "at": str(self._plan.book.gates[name].spec.at)}
            for name in self._watch.names
        }

    def verdicts(self) -> list[GateVerdict]:
        """Return the verdict of every gate asked for; inconclusive where none has been told."""
        return [self._verdict(name) or "inconclusive" for name in self._plan.names]

    def _verdict(self, name: str) -> GateVerdict | None:
        body = self._told.get(name)
        return body["verdict"] if body is not None and body["verdict"] != "waiting" else None

    def _tell(
        self, outcomes: Iterable[Outcome], trainer: TrainerLink, now: float, *, past: bool = False
    ) -> list[Message]:
        messages = []
        for outcome in outcomes:
            name, verdict = outcome.gate.name, outcome.verdict
            if self._verdict(name) == verdict:
                continue
            headline = f"gate {name} {_WORDS[verdict]}"
            deed = ""
            if verdict == "fail" and not past:
                deed = self._end(trainer, f"{headline}: {outcome.reason}", now)
            self._told[name] = {
                "verdict": verdict,
                "reason": outcome.reason,
                "step": outcome.at.run_step,
                "ended": self.ended_it,
            }
            if not past:
                text = "\n".join(filter(None, (outcome.reason, deed)))
                advice = _ADVICE.format(name=name) if verdict != "pass" else ""
                severity = _SEVERITIES[verdict]
                messages.append(notice(self._run, f"gate-{name}", severity, headline, text, now, advice))
        return messages

    def _end(self, trainer: TrainerLink, why: str, now: float) -> str:
        """Ask the trainer to end, once; say what was done about it."""
        registration = trainer.registration
        if registration.finished:
            return ""
        if self.ended_it:
            return "the trainer has been asked to end already"
        if not self._act:
            return "would end the training (mode observe)"
        if trainer.unreachable:
            return f"nobody can be asked to end it: {trainer.unreachable}"
        trainer.end(why, now)
        self.ended_it = True
        return "asked the trainer to end"


def final_code(code: int, gates: Sequence[LiveGates]) -> int:
    """Return the exit code of a supervised job that was held against gates.

    Where the job itself failed, its own code says more; where a gate ended it, or it ended well, the gates'
    verdict is the answer. A job that logged no point has shown nothing.

    Args:
        code: the job's own. gates: of every run that had points while it ran.
    """
    verdicts = [verdict for each in gates for verdict in each.verdicts()]
    if code and not any(each.ended_it for each in gates):
        return code
    return exit_code(verdicts or ["inconclusive"])
