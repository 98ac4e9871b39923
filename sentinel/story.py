"""What people are told: from a change in a run to a message in plain words. Pure.

One thread per run, alert and episode. The first message says what is wrong, since when, by which number, and
what was done; each later one says what changed; the last one closes the story.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from notifier.message import Message, facts
from notifier.numbers import duration, number
from rules.alert import AlertState, Transition
from rules.verdict import Mark
from sentinel.climb import Asked
from sentinel.judge import Step
from sentinel.policy import Action

_QUIET = (AlertState.INACTIVE, AlertState.PENDING)


def tell(run: str, step: Step, summary: str, *, mode: str, known: bool) -> Message | None:
    """Compose what one judged step is worth telling, or None.

    Args:
        run: the run's name.
        step: the observation and its actions.
        summary: the rule's own sentence, with its numbers filled in.
        mode: `act` or `observe`; in observe mode an action is told as one that would have been taken.
        known: whether this thread has a first message already.
    """
    moved, actions = step.observation.transition, step.actions
    notify = any((action.verb == "notify" and not action.withheld) or action.asks for action in actions)
    if not known and not notify:
        return None
    if moved is None and not actions:
        return None
    if known and moved is not None and moved.after in _QUIET:
        return None
    alert, rule, at = step.observation.alert, step.observation.rule, step.observation.verdict.at
    closing = moved is not None and moved.after is AlertState.RESOLVED
    done = deeds(actions, mode)
    if known and moved is not None and moved.after is AlertState.RECOVERING and not done:
        return None
    kind = "closed" if closing else ("update" if known else "opened")
    said = "\n".join(filter(None, (summary, rule.why))) if kind == "opened" else _change(step, summary)
    return Message(
        key=f"{run}/{step.thread}/{at.wall_time:.3f}/{alert.state}/{len(actions)}{_settled(actions)}",
        thread=f"{run}/{step.thread}",
        kind=kind,
        severity=rule.severity,
        run=run,
        rule=step.observation.key,
        title=in_words(step.observation.key),
        state=_word(alert.state),
        happened=said,
        facts=facts((*_facts(step, said), *done)),
        advice=rule.try_ if kind == "opened" else "",
        wall_time=at.wall_time,
    )


def in_words(key: str) -> str:
    """Name a rule in words: `actor exploits critic`, `nonfinite: train/loss`."""
    name, bracket, rest = key.partition("[")
    words = name.rpartition("/")[2].replace("_", " ")
    return f"{words}: {rest.removesuffix(']')}" if bracket else words


def _change(step: Step, summary: str) -> str:
    """Say what is new in a story that has begun."""
    moved, at = step.observation.transition, step.observation.verdict.at
    if moved is None:
        return f"still firing: {summary}"
    reason = f"{moved.reason[:1].upper()}{moved.reason[1:]}"
    if moved.after is AlertState.RESOLVED:
        return f"{reason} at step {number(at.run_step)}{_lasted(moved, at)}."
    if moved.after is AlertState.PROBATION:
        return (
            f"{reason} at step {number(at.run_step)}. The alert is on probation: "
            "this attempt must show that it has recovered."
        )
    if moved.after is AlertState.FIRING:
        return f"{reason}: {summary}"
    return reason


def _lasted(moved: Transition, at: Mark) -> str:
    if moved.onset is None or at.wall_time < moved.onset.wall_time:
        return ""
    return f", {duration(at.wall_time - moved.onset.wall_time)} after it began"


def _word(state: AlertState) -> str:
    return "on probation" if state is AlertState.PROBATION else state.value


def _facts(step: Step, said: str) -> list[tuple[str, str]]:
    alert, at = step.observation.alert, step.observation.verdict.at
    known = [("step", number(at.run_step))]
    if alert.onset is not None:
        known.append(("since step", number(alert.onset.run_step)))
    calm = alert.state in (AlertState.PROBATION, AlertState.RESOLVED)
    if alert.value is not None and not calm and not _shows(said, alert.value):
        limit = f" (limit {number(alert.limit)})" if alert.limit is not None else ""
        known.append(("value", f"{number(alert.value)}{limit}"))
    if step.attempt:
        known.append(("attempt", str(step.attempt)))
    return known


def _shows(text: str, value: float) -> bool:
    """Whether a sentence holds a number already, in whatever digits its author chose."""
    words = set(re.findall(r"-?\d[\d\u202f.]*(?:e[+-]?\d+)?", text))
    cut = {word.rstrip(".") for word in words}
    return any(
        f"{value:{digits}}" in cut for digits in ("g", ".0f", ".1f", ".2f", ".3f", ".3g", ".4g", ".6g")
    )


def deeds(actions: Sequence[Action], mode: str) -> list[tuple[str, str]]:
    """Say in words what was asked of the trainer, would have been, or was due and withheld."""
    told = []
    for action in actions:
        if action.verb == "notify":
            continue
        if action.asks is not None:
            told.append(("asks" if mode == "act" else "would ask people", question(action.asks)))
        elif action.settles:
            told.append(("answer", action.reason))
        elif action.withheld:
            told.append((f"no {action.verb}", action.reason))
        else:
            told.append(("asked" if mode == "act" else "would ask", describe(action)))
    return told


def question(asked: Asked) -> str:
    """Say what people are asked about: `rollback to 00-00001000 (step 1000) with lr=x0.5`."""
    return " and ".join(describe(deed) for deed in asked.deeds)


def _settled(actions: Sequence[Action]) -> str:
    """Tell an answer from what else is told of the same moment."""
    return "".join(f"/{action.settles}" for action in actions if action.settles)


def describe(action: Action) -> str:
    """Put an action into words: `rollback to 00-00001000 (step 1000) with q_features=critic`."""
    words: list[str] = [action.verb]
    if action.verb == "rollback":
        words.append(
            f"to {action.checkpoint} (step {action.to_step})"
            if action.checkpoint
            else "to the newest good checkpoint before onset"
        )
        remedy = [f"{name}={value}" for name, value in sorted((action.set or {}).items())]
        if action.reinit:
            remedy.append(f"fresh {', '.join(action.reinit)}")
        if remedy:
            words.append("with " + ", ".join(remedy))
    return " ".join(words)


@dataclass(frozen=True, slots=True)
class Cost:
    """What of the training a command gave up: steps, and the seconds that they took (None: not known)."""

    steps: int
    seconds: float | None = None

    def __str__(self) -> str:
        steps = f"{number(self.steps)} step{'s' if self.steps != 1 else ''}"
        return steps if self.seconds is None else f"{steps} = {duration(self.seconds)} of training"


def outcome(
    run: str,
    thread: str,
    key: str,
    severity: str,
    command: Mapping[str, object],
    wall: float,
    cost: Cost | None = None,
    kept: int | None = None,
) -> Message:
    """Compose what became of a command, for the thread of the alert that asked for it.

    Args:
        run, thread, key, severity: the story it belongs to.
        command: the journal's row: id, verb, state, reason, step, checkpoint, checkpoint_step.
        wall: when it became known, in seconds since the epoch.
        cost: what of the training it gave up.
        kept: of a run that was ended, the step of the checkpoint that can be gone on from.
    """
    verb, state = str(command["verb"]), str(command["state"])
    known = []
    if command.get("checkpoint"):
        known.append(("checkpoint", f"{command['checkpoint']} (step {command['checkpoint_step']})"))
    if cost is not None:
        known.append(("cost", str(cost)))
    reason = str(command.get("reason") or "")
    told = f"{verb} (command {command['id']}) {state}" + (f": {reason}" if reason and state != "done" else "")
    return Message(
        key=f"{run}/{key}/command-{command['id']}/{state}",
        thread=thread,
        kind="update",
        severity=severity,
        run=run,
        rule=key,
        title=in_words(key),
        state=_came_to(verb, command) if state == "done" else f"{verb} {state}",
        happened=_done(verb, command, cost, kept) if state == "done" else told,
        facts=facts(known),
        advice=ADVICE.get(state, ""),
        wall_time=wall,
    )


def _came_to(verb: str, command: Mapping[str, object]) -> str:
    if verb == "rollback" and command.get("checkpoint_step") is not None:
        return f"rolled back to step {_step(command, 'checkpoint_step')}"
    return {"rollback": "rolled back", "checkpoint": "checkpoint written"}.get(verb, "ended")


def _done(verb: str, command: Mapping[str, object], cost: Cost | None, kept: int | None) -> str:
    at = f" at step {_step(command, 'step')}" if command.get("step") is not None else ""
    if verb == "checkpoint":
        return f"A checkpoint was written{at}."
    if verb == "rollback":
        to = (
            f" to step {_step(command, 'checkpoint_step')}"
            if command.get("checkpoint_step") is not None
            else ""
        )
        return f"Rolled back{to}." + (f" Given up: {cost}." if cost is not None else "")
    if cost is None:
        return f"The run was ended{at}."
    if kept is None:
        return f"The run was ended{at}. No checkpoint of it is known; lost: {cost}."
    return f"The run was ended{at}. Its last checkpoint is of step {number(kept)}; lost since: {cost}."


def _step(command: Mapping[str, object], name: str) -> str:
    value = command[name]
    return number(value) if isinstance(value, int) else str(value)


ADVICE = {
    "unanswered": "The trainer did not answer in time. See whether it hangs (py-spy dump --pid PID); raise "
    "[trainer] "
    "ack_timeout if its steps are that long.",
    "unwritten": "Make room on that disk, or give back the right to write there: the command then goes out "
    "by itself. If its time runs out first, the ladder goes on as if it had been refused.",
    "asked anew": "Nothing was done yet. Where two machines' clocks differ, keep both in step (NTP, chrony).",
    "expired": "The command was too old when the trainer saw it; nothing was done.",
}
"""What to do about a command that has come to this state."""


def notice(
    run: str, name: str, severity: str, title: str, text: str, wall: float, advice: str = ""
) -> Message:
    """Compose a message that belongs to no alert: a blind spot, a dead channel, a finished run."""
    return Message(
        key=f"{run}/{name}/{wall:.3f}",
        thread=f"{run}/{name}/{wall:.3f}",
        kind="notice",
        severity=severity,
        run=run,
        rule="",
        title=title,
        happened=text,
        advice=advice,
        wall_time=wall,
    )
