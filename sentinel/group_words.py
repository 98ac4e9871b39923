"""What a message says that stands for several stories, and what its thread says of one of them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from notifier.message import SEVERITIES, Fact, Message, facts

_NAMED = 10
"""So many stories are named in the text of one message; the others are counted."""

_SPOKEN = 20
"""So many have a line of their own that is kept up to date."""


def together(members: Sequence[tuple[Message, Message]], key: str, thread: str, now: float) -> Message:
    """Make one message of several stories.

    Args:
        members: of each story the message that opened it and the newest one, the gravest story first.
        key, thread: of the message. now: wall time.
    """
    firsts = [first for first, _ in members]
    lead = firsts[0]
    run, rule = _common([m.run for m in firsts]), _common([m.rule.partition("[")[0] for m in firsts])
    runs = len({m.run for m in firsts})
    kind = "opened" if any(m.kind == "opened" for m in firsts) else "notice"
    what = rule or _common([m.title for m in firsts])
    firing = sum(m.kind == "opened" for m in firsts)
    count = f"{len(firsts)} alerts" if firing == len(firsts) else f"{len(firsts)} messages"
    title = f"{what} in {runs} runs" if what and runs > 1 else f"{count} at once"
    lines = [_line(first, latest, run, rule) for first, latest in members[:_NAMED]]
    if len(members) > _NAMED:
        lines.append(f"and {len(members) - _NAMED} more")
    return Message(
        key=key,
        thread=thread,
        kind=kind,
        severity=lead.severity,
        run=run,
        rule=rule,
        title=title,
        state=f"{firing} firing" if firing else "",
        happened="\n".join(lines),
        facts=tuple(
            Fact(label(first, run, rule), _standing(latest))
            for first, latest in members[:_SPOKEN]
            if first.kind == "opened"
        ),
        advice="\n".join(dict.fromkeys(m.advice for m in firsts if m.advice)),
        commands=lead.commands,
        plot=next((m.plot for m in firsts if m.plot is not None), None),
        wall_time=now,
        labels={
            name: value
            for name, value in lead.labels.items()
            if all(m.labels.get(name) == value for m in firsts)
        },
    )


def part(message: Message, top: Message, left: int, of: int) -> Message:
    """Say in the thread of a message for several stories what has become of one of them.

    Args:
        message: what is said of it. top: the message for all. left: how many still fire. of: how many there
            are.
    """
    about = label(message, top.run, top.rule)
    closing = message.kind == "closed" and not left
    state = f"all {of} over" if closing else f"{left} of {of} firing"
    if of < 2:
        state = message.state or top.state
    return replace(
        message,
        thread=top.thread,
        kind="closed" if closing else "update",
        severity=max(message.severity, top.severity, key=SEVERITIES.index),
        run=top.run,
        rule=top.rule,
        title=top.title,
        state=state,
        happened=f"{about}: {message.happened}",
        facts=facts([(about, _standing(message))]) if message.rule else message.facts,
    )


def family(message: Message) -> str:
    """Name what a message has in common with others that are one story with it; "" for nothing."""
    return message.family or ("process" if message.labels.get("area") == "process" else "")


def name(message: Message) -> str:
    """Name what a message is about, apart from when it was."""
    return message.rule or message.key.rsplit("/", 2)[-2]


def again(members: Sequence[Message], top: Message, key: str, since: str, now: float) -> Message:
    """Say that stories go on. `members`: what opened them. `since`: for how long, in words."""
    names = ", ".join(label(each, top.run, top.rule) for each in members[:_NAMED])
    more = f" and {len(members) - _NAMED} more" if len(members) > _NAMED else ""
    alone = len(members) == 1 and members[0].thread == top.thread
    ack = f"sentinel ack {_quoted(members[0].run)} {_quoted(members[0].rule)}"
    said = f"still firing after {since}" + ("" if alone else f": {names}{more}")
    return replace(
        top,
        key=key,
        kind="update",
        state="firing" if alone else f"{len(members)} firing",
        happened=f"{said}. Who has it in hand says so with: {ack}",
        facts=(),
        advice="",
        commands=(),
        plot=None,
        wall_time=now,
        again=True,
    )


def digest(
    held: Sequence[Message], open_: Sequence[Message], key: str, thread: str, since: str, now: float
) -> Message:
    """Tell what a budget has held back.

    Args:
        held: the messages that were not told. open_: those of them whose stories still go on.
        key, thread: of the message. since: since when, in words. now: wall time.
    """
    lead = max(held, key=lambda m: SEVERITIES.index(m.severity))
    counted = Counter((m.severity, m.title if not m.rule else m.rule, m.run) for m in held)
    lines = [
        f"{n} × {severity} {name}{f' in {run}' if run else ''}"
        for (severity, name, run), n in counted.most_common(_NAMED)
    ]
    if len(counted) > _NAMED:
        lines.append(f"and {len(counted) - _NAMED} more kinds")
    run, rule = _common([m.run for m in held]), _common([m.rule.partition("[")[0] for m in held])
    going = [label(m, run, rule) for m in open_]
    return Message(
        key=key,
        thread=thread,
        kind="opened" if open_ else "notice",
        severity=lead.severity,
        run=run,
        rule=rule,
        title=f"{len(held)} more were held back",
        state=f"{len(open_)} firing" if open_ else "",
        happened="\n".join([f"Since {since} this channel's budget was used up.", *lines]),
        facts=tuple(Fact(name, "firing") for name in going[:_SPOKEN]),
        advice="A rule that flaps wants a longer `for`, or `keep_firing_for`; or silence it for a while.",
        wall_time=now,
    )


def label(message: Message, run: str, rule: str = "") -> str:
    """Name a story among others of a message about `run`, or about `rule`; "" where they differ in it."""
    name = message.rule or message.title
    if rule and not run:
        capture = message.rule.removeprefix(rule)
        return f"{message.run}{capture and f' {capture}'}"
    return name if run or not message.run else f"{message.run} {name}"


def _line(first: Message, latest: Message, run: str, rule: str) -> str:
    said = first.happened.partition("\n")[0].removeprefix(f"{first.rule}: ")
    title = first.title if first.title not in (first.rule, "") else ""
    words = ": ".join(filter(None, (label(first, run, rule), title if first.rule else "", said)))
    state = f" ({latest.state})" if latest is not first and latest.state else ""
    return f"{first.severity.upper()} {words}{state}"


def _standing(message: Message) -> str:
    known = dict(message.facts)
    parts = [
        message.state or "firing",
        *(f"{name} {known[name]}" for name in ("value", "since step") if name in known),
    ]
    return ", ".join(parts)


def _common(values: Sequence[str]) -> str:
    return values[0] if len(set(values)) == 1 else ""


def _quoted(name: str) -> str:
    return f"'{name}'" if set(name) & set("[]* ?") else name
