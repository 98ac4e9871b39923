"""What every notifier must keep to, as a test kit for people who write one.

A notifier passes if `check` returns no findings. The kit knows nothing of the channel: the author says how to
make a notifier, which secrets must not show, and how to make the other side fail.

    def test_mine_keeps_the_contract():
        faults = http_faults(lambda status, headers: lambda: server.answer_next(status, headers))
        assert check(lambda: MyNotifier(server.url), secrets=[TOKEN], faults=faults) == []
"""

from __future__ import annotations

import logging
import re
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from notifier.base import DeliveryError, Notifier, Permanent, Repeating, Standing, Transient
from notifier.message import KINDS, SEVERITIES, Message, facts


@dataclass(frozen=True, slots=True)
class Fault:
    """One way in which the other side can fail.

    Attributes:
        name: for the findings.
        inject: makes the next call fail in this way.
        expect: what the notifier must raise.
        channel_dead: for a Permanent, whether it must say that nothing can pass.
        retry_after: for a Transient, the seconds that the other side asked for; None if it did not.
    """

    name: str
    inject: Callable[[], None]
    expect: type[Transient] | type[Permanent]
    channel_dead: bool = False
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Arrived:
    """What came to the other side with one message.

    Attributes:
        text: all that a person will read of it, as it will be shown.
        id: by what the other side knows a message that comes twice; "" where a channel has no such thing.
        size: bytes.
    """

    text: str
    id: str = ""
    size: int = 0


def living(text: str) -> bool:
    """Whether a service that parses text would mention somebody, hide a link, or act on a terminal."""
    return _LIVING.search(text) is not None


_LIVING = re.compile(
    r"@(?:here|channel|everyone|\w)|<[!@#]|<https?:|<[^>\u200b][^>]*\||\]\(|[\x00-\x08\x1b\x9b\u202e]"
)


def http_faults(
    answer: Callable[[int, dict[str, str]], Callable[[], None]],
    *,
    hang: Callable[[], None] | None = None,
    drop: Callable[[], None] | None = None,
    slow: Callable[[], None] | None = None,
    rate_limit: float | None = 30.0,
) -> list[Fault]:
    """Return the table of HTTP's faults: what each status means for a message and for its channel.

    Args:
        answer: takes a status and headers, returns what makes the next call be answered so.
        hang, drop, slow: make the next call get no answer, a closed connection, an answer without an end.
        rate_limit: the seconds a notifier stays away after a 429 that does not say how long.
    """

    def passing(status: int, seconds: str | None = None, expected: float | None = None) -> Fault:
        headers = {} if seconds is None else {"Retry-After": seconds}
        name = f"HTTP {status}" + (f" with Retry-After: {seconds}" if seconds else "")
        return Fault(name, answer(status, headers), Transient, retry_after=expected)

    def final(status: int, *, dead: bool) -> Fault:
        headers = {"Location": "http://127.0.0.1:9/elsewhere"} if 300 <= status < 400 else {}
        return Fault(f"HTTP {status}", answer(status, headers), Permanent, channel_dead=dead)

    faults = [
        passing(429, None, rate_limit),
        passing(429, "7", 7.0),
        passing(429, "0.5", 0.5),
        passing(429, "soon", rate_limit),
        passing(429, "-5", rate_limit),
        passing(503, "3", 3.0),
        *(passing(status) for status in (*PASSING_STATUSES, *range(500, 512), 520, 529, 599)),
        *(final(status, dead=True) for status in (300, 301, 302, 303, 304, 307, 308, *DEAD_STATUSES)),
        *(final(status, dead=False) for status in (400, 406, 411, 412, 413, 414, 415, 417, 418, 422, 431)),
    ]
    for name, inject in (("no answer", hang), ("connection dropped", drop), ("an answer without end", slow)):
        if inject is not None:
            faults.append(Fault(name, inject, Transient))
    return faults


PASSING_STATUSES = (408, 409, 421, 425)
"""Below 500, and passing all the same. 409 is the answer to a key whose first call is still in hand."""

DEAD_STATUSES = (401, 402, 403, 404, 405, 407, 410, 451)
"""After which a person must change something: the key, the address, the rights, a proxy."""


def sample(kind: str = "opened", severity: str = "critical") -> Message:
    """Return a message as the sentinel writes them."""
    return Message(
        key=f"sample/{kind}/{severity}",
        thread="sample",
        kind=kind,
        severity=severity,
        run="driving/seed047",
        rule="td3/actor_exploits_critic",
        title="actor Q leaves the critics",
        state={"opened": "firing", "update": "rolled back to step 1 000", "closed": "recovered"}.get(
            kind, ""
        ),
        happened="actor Q 56.1 vs critic 3.2 (lead 17.5x) at step 1 300, onset 1 200",
        facts=facts(
            [
                ("since step", "1 200"),
                ("value", "17.5, limit 2"),
                ("done", "checkpoint asked for"),
                ("checkpoint", "00-00001300 (suspect)"),
            ]
        ),
        advice="set q_features = critic, or reset the actor",
        wall_time=1_700_000_000.0,
    )


def hostile() -> Iterator[Message]:
    """Yield messages that a run's files could cause: too long, empty, in any script, full of commands."""
    base = sample()
    yield replace(
        base, key="long", title="T" * 5000, happened="&" * 50_000, advice="<" * 50_000, run="r" * 5000
    )
    yield replace(base, key="many", facts=facts((f"label {i}", "v" * 3000) for i in range(300)))
    yield replace(base, key="emoji", title="🔥" * 200, happened="🔥" * 4000, state="👩‍🚀" * 500)
    yield replace(
        base,
        key="empty",
        title="",
        happened="",
        advice="",
        state="",
        run="",
        rule="",
        facts=facts([("", "")]),
    )
    evil = "<!channel> <@U123> <https://evil.example|here> @here `code` *b* https://evil.example"
    evil += " \x1b[31m\x07\x9b2J \u202egnp\u2066 \ud800 \r\n\x00 :fire: &amp; [bold red]x[/]"
    yield replace(
        base,
        key="evil",
        title=evil,
        happened=evil,
        advice=evil,
        state=evil,
        run=evil,
        rule=evil,
        facts=facts([(evil, evil)]),
    )
    yield replace(
        base, key="scripts", title="Überwachung 監視 مراقبة नमस्ते", happened="zeile eins\nzeile zwei"
    )
    yield replace(base, key="no-time", wall_time=float("inf"))


def check(
    make: Callable[[], Notifier],
    *,
    secrets: Sequence[str] = (),
    faults: Sequence[Fault] = (),
    patience: float = 5.0,
    arrived: Callable[[], Sequence[Arrived]] | None = None,
    alive: Callable[[str], bool] = living,
    max_bytes: int | None = None,
) -> list[str]:
    """Try a notifier in every way that the outbox will, and some more.

    Args:
        make: builds a notifier that is pointed at the author's test server.
        secrets: texts that must show in no reason, traceback, repr or log line.
        faults: ways in which the other side fails; after each one the next call must work again.
        patience: seconds within which every call must end.
        arrived: what has come to the other side, oldest first; None where the author cannot tell.
        alive: whether a text that arrived would mention somebody there; for markup that has escapes.
        max_bytes: the most that the other side takes in one message; None for any.

    Returns:
        Findings, empty if the contract is kept.
    """
    findings: list[str] = []
    with _logged() as lines:
        notifier = make()
        findings += _tells(notifier, patience)
        if arrived is not None:
            findings += _arrives(notifier, arrived, alive, max_bytes)
        for fault in faults:
            findings += _fails(notifier, fault, secrets, patience)
        shown = [repr(notifier), str(notifier), *lines]
    findings += [
        f"a secret shows in {text[:40]!r}…" for text in shown for secret in secrets if secret in text
    ]
    return findings


def _tells(notifier: Notifier, patience: float) -> Iterator[str]:
    """A story in every kind and severity, its edit, the same message twice, and hostile ones."""
    ref: str | None = None
    for severity in SEVERITIES:
        for kind in KINDS:
            new, found = _send(notifier, sample(kind, severity), ref, patience)
            ref = ref or new
            yield from found
    if isinstance(notifier, Repeating):
        for stories in ([], [Standing(ref or "", sample()), Standing(ref or "", sample("update"))]):
            late, error = _timed(partial(notifier.stand, stories), patience)
            if late or error is not None:
                yield f"stand with {len(stories)} stories: {error!r}" + (" too late" if late else "")
    for message in (sample("opened"), sample("opened"), *hostile()):
        for thread_ref in (None, ref):
            yield from _send(notifier, message, thread_ref, patience)[1]
        if ref is not None:
            _, error = _timed(partial(notifier.edit, ref, message), patience)
            if error is not None:
                yield f"edit of {message.key!r}: {error!r}"


def _arrives(
    notifier: Notifier,
    arrived: Callable[[], Sequence[Arrived]],
    alive: Callable[[str], bool],
    max_bytes: int | None,
) -> Iterator[str]:
    """Look at what the other side got: every script, nothing that acts, not too much, and known again."""
    for each in arrived():
        if alive(each.text):
            yield f"a mention, a hidden link or an escape is alive in {each.text[:200]!r}"
        if max_bytes is not None and each.size > max_bytes:
            yield f"a message has {each.size} bytes, {max_bytes} are allowed"
    before = len(arrived())
    words = replace(sample(), key="scripts", title="Überwachung 監視 مراقبة नमस्ते 🔥")
    for message in (words, sample("update"), sample("update")):
        _, error = _timed(partial(notifier.send, message, None), 60.0)
        if error is not None:
            yield f"send of {message.key!r}: {error!r}"
    new = arrived()[before:]
    if len(new) != 3:
        yield f"of three messages {len(new)} arrived"
        return
    text, *twice = new
    lost = [word for word in words.title.split() if word not in text.text]
    if lost:
        yield f"{' '.join(lost)} did not arrive, but {text.text[:200]!r}"
    if len({each.id for each in twice}) != 1:
        yield f"the same message twice has two ids: {', '.join(each.id for each in twice)}"
    if text.id and text.id == twice[0].id:
        yield f"two messages have the same id: {text.id}"


def _send(
    notifier: Notifier, message: Message, thread_ref: str | None, patience: float
) -> tuple[str | None, list[str]]:
    got: list[object] = []
    late, error = _timed(lambda: got.append(notifier.send(message, thread_ref)), patience)
    found = [f"send of {message.key!r} took longer than {patience:g} s"] if late else []
    if error is not None:
        return None, [*found, f"send of {message.key!r}: {error!r}"]
    if not isinstance(got[0], str) or not got[0]:
        return None, [*found, f"send of {message.key!r} returned {got[0]!r}, not a reference"]
    return got[0], found


def _fails(notifier: Notifier, fault: Fault, secrets: Sequence[str], patience: float) -> Iterator[str]:
    fault.inject()
    late, error = _timed(lambda: notifier.send(sample(), None), patience)
    if late:
        yield f"{fault.name}: took longer than {patience:g} s"
    if error is None:
        yield f"{fault.name}: nothing was raised"
    elif type(error) is not fault.expect and not isinstance(error, fault.expect):
        yield f"{fault.name}: raised {error!r}, not {fault.expect.__name__}"
    if isinstance(error, Permanent) and error.channel_dead is not fault.channel_dead:
        yield f"{fault.name}: channel_dead is {error.channel_dead}"
    if (
        isinstance(error, Transient)
        and fault.retry_after is not None
        and error.retry_after != fault.retry_after
    ):
        yield f"{fault.name}: retry_after is {error.retry_after}, not {fault.retry_after}"
    if isinstance(error, DeliveryError) and (not error.reason or "\n" in error.reason):
        yield f"{fault.name}: the reason is not one line: {error.reason!r}"
    if error is not None:
        yield from _leaks(fault.name, error, secrets)
    _, after = _timed(lambda: notifier.send(sample(), None), patience)
    if after is not None:
        yield f"{fault.name}: the call after it failed too: {after!r}"


def _leaks(name: str, error: BaseException, secrets: Sequence[str]) -> Iterator[str]:
    """Look for secrets where a log or a bug report would put them: the traceback and all chained errors."""
    shown = "".join(traceback.format_exception(error)) + repr(error)
    chained: BaseException | None = error
    while chained is not None:
        shown += repr(chained) + repr(vars(chained))
        chained = chained.__cause__ or chained.__context__
    if any(secret in shown for secret in secrets):
        yield f"{name}: a secret shows in the error"


def _timed(call: Callable[[], object], patience: float) -> tuple[bool, Exception | None]:
    began = time.monotonic()
    error: Exception | None = None
    try:
        call()
    except Exception as raised:  # noqa: BLE001  whatever a notifier raises is a finding
        error = raised
    return time.monotonic() - began > patience, error


@contextmanager
def _logged() -> Iterator[list[str]]:
    """Collect every log line of the process, at every level."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(logging.Formatter().format(record))

    root, handler = logging.getLogger(), Collector()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
