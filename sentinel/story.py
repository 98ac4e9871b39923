"""What people are told: from a change in a run to a message in plain words. Pure.

One thread per run, alert and episode. The first message says what is wrong, since when, by which number, and
what was done; each later one says what changed; the last one closes the story.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from notifier.message import Message, facts
from rules.alert import AlertState
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
    notify = any(action.verb == "notify" and not action.withheld for action in actions)
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
    return Message(
        key=f"{run}/{step.thread}/{at.wall_time:.3f}/{alert.state}/{len(actions)}",
        thread=f"{run}/{step.thread}",
        kind=kind,
        severity=rule.severity,
        run=run,
        rule=step.observation.key,
        title=step.observation.key,
        state=_word(alert.state),
        happened="\n".join(filter(None, (summary, rule.why))) if kind == "opened" else _change(step, summary),
        facts=facts((*_facts(step), *done)),
        advice=rule.try_ if kind == "opened" else "",
        wall_time=at.wall_time,
    )


def _change(step: Step, summary: str) -> str:
    """Say what is new in a story that has begun."""
    moved = step.observation.transition
    return f"still firing: {summary}" if moved is None else moved.reason


def _word(state: AlertState) -> str:
    return "on probation" if state is AlertState.PROBATION else state.value


def _facts(step: Step) -> list[tuple[str, str]]:
    alert, at = step.observation.alert, step.observation.verdict.at
    known = [("step", str(at.run_step))]
    if alert.onset is not None:
        known.append(("since step", str(alert.onset.run_step)))
    if alert.value is not None:
        limit = f" (limit {alert.limit:.6g})" if alert.limit is not None else ""
        known.append(("value", f"{alert.value:.6g}{limit}"))
    if step.attempt:
        known.append(("attempt", str(step.attempt)))
    return known


def deeds(actions: Sequence[Action], mode: str) -> list[tuple[str, str]]:
    """Say in words what was asked of the trainer, would have been, or was due and withheld."""
    told = []
    for action in actions:
        if action.verb == "notify":
            continue
        if action.withheld:
            told.append((f"no {action.verb}", action.reason))
        else:
            told.append(("asked" if mode == "act" else "would ask", describe(action)))
    return told


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


def outcome(
    run: str, thread: str, key: str, severity: str, command: Mapping[str, object], wall: float
) -> Message:
    """Compose what became of a command, for the thread of the alert that asked for it.

    Args:
        run, thread, key, severity: the story it belongs to.
        command: the journal's row: id, verb, state, reason, step, checkpoint, checkpoint_step.
        wall: when it became known, in seconds since the epoch.
    """
    verb, state = str(command["verb"]), str(command["state"])
    known = []
    if command.get("checkpoint"):
        known.append(("checkpoint", f"{command['checkpoint']} (step {command['checkpoint_step']})"))
    if command.get("step") is not None:
        known.append(("at step", str(command["step"])))
    reason = str(command.get("reason") or "")
    return Message(
        key=f"{run}/{key}/command-{command['id']}/{state}",
        thread=thread,
        kind="update",
        severity=severity,
        run=run,
        rule=key,
        title=key,
        state=f"{verb} {state}",
        happened=f"{verb} (command {command['id']}) {state}"
        + (f": {reason}" if reason and state != "done" else ""),
        facts=facts(known),
        advice=ADVICE.get(state, ""),
        wall_time=wall,
    )


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
