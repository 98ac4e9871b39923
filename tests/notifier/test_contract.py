"""The kit is worth something only if it finds what is wrong: one broken notifier for each of its words."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.base import DeliveryError, Permanent, Standing, Transient
from notifier.contract import DEAD_STATUSES, PASSING_STATUSES, Arrived, Fault, check, http_faults, living
from notifier.message import Message
from notifier.post import DEAD, PASSING, judge
from notifier.tame import tame

SECRET = "thesecret"


@dataclass
class Good:
    """A channel that keeps the contract; each broken one changes one thing."""

    arrivals: list[Arrived] = field(default_factory=list)
    failing: list[DeliveryError] = field(default_factory=list)

    def send(self, message: Message, thread_ref: str | None) -> str:
        if self.failing:
            raise self.failing.pop()
        self.arrivals.append(Arrived(tame(message.title), message.key, 10))
        return message.key

    def edit(self, first_ref: str, message: Message) -> None:
        """Nothing is edited."""

    def fault(self, error: DeliveryError, **expected: object) -> Fault:
        kind = Transient if isinstance(error, Transient) else Permanent
        return Fault("fault", lambda: self.failing.append(error), kind, **expected)  # type: ignore[arg-type]  # a test's


def findings(notifier: Good, *faults: Fault, **more: object) -> str:
    found = check(
        lambda: notifier,
        secrets=[SECRET],
        faults=faults,
        arrived=lambda: notifier.arrivals,
        **more,  # type: ignore[arg-type]  # a test's
    )
    return "\n".join(found)


def test_a_good_one_has_no_findings() -> None:
    """Else the findings below would say nothing."""
    good = Good()
    assert findings(good, good.fault(Transient("down", 7), retry_after=7), max_bytes=10) == ""


class Silent(Good):
    def send(self, message: Message, thread_ref: str | None) -> str:
        return ""


class Slow(Good):
    def send(self, message: Message, thread_ref: str | None) -> str:
        if message.key == "no-time":
            time.sleep(0.25)
        return super().send(message, thread_ref)


class Lively(Good):
    def send(self, message: Message, thread_ref: str | None) -> str:
        self.arrivals.append(Arrived(message.title, message.key, 10))
        return message.key


class Ascii(Good):
    def send(self, message: Message, thread_ref: str | None) -> str:
        text = tame(message.title).encode("ascii", "ignore").decode()
        self.arrivals.append(Arrived(text, message.key, 10))
        return message.key


class Forgetful(Good):
    def send(self, message: Message, thread_ref: str | None) -> str:
        self.arrivals.append(Arrived(tame(message.title), str(len(self.arrivals)), 10))
        return message.key


class Same(Good):
    def send(self, message: Message, thread_ref: str | None) -> str:
        self.arrivals.append(Arrived(tame(message.title), "one", 10))
        return message.key


class Losing(Good):
    def send(self, message: Message, thread_ref: str | None) -> str:
        return message.key


class Chatty(Good):
    def send(self, message: Message, thread_ref: str | None) -> str:
        logging.getLogger("chatty").debug("posting to https://x/%s", SECRET)
        return super().send(message, thread_ref)


class Fragile(Good):
    def send(self, message: Message, thread_ref: str | None) -> str:
        json.dumps(message.title, ensure_ascii=False).encode()
        return super().send(message, thread_ref)


class Stumbling(Good):
    def stand(self, stories: Sequence[Standing]) -> None:
        raise Transient("always")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Silent, "not a reference"),
        (Lively, "is alive"),
        (Ascii, "did not arrive"),
        (Forgetful, "has two ids"),
        (Same, "two messages have the same id"),
        (Losing, "of three messages 0 arrived"),
        (Chatty, "a secret shows"),
        (Fragile, "UnicodeEncodeError"),
        (Stumbling, "stand with"),
    ],
)
def test_what_is_wrong_is_found(make: Callable[[], Good], words: str) -> None:
    """Each in its own words."""
    assert words in findings(make())


def test_one_that_takes_too_long_is_found() -> None:
    """By the patience of the kit."""
    assert "took longer" in findings(Slow(), patience=0.1)


def test_a_message_that_is_too_long_is_found() -> None:
    """By the other side's limit."""
    assert "10 bytes, 9 are allowed" in findings(Good(), max_bytes=9)


def _chained() -> Transient:
    error = Transient("no answer")
    error.__context__ = OSError(f"https://x/{SECRET}")
    return error


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (Transient("down"), {"retry_after": 7.0}, "retry_after is None, not 7.0"),
        (Permanent("no"), {"channel_dead": True}, "channel_dead is False"),
        (Transient("a\nb"), {}, "not one line"),
        (Transient(SECRET), {}, "a secret shows in the error"),
        (_chained(), {}, "a secret shows in the error"),
    ],
)
def test_a_wrong_failure_is_found(error: DeliveryError, expected: dict[str, object], words: str) -> None:
    """What it says, and what hangs on it."""
    good = Good()
    assert words in findings(good, good.fault(error, **expected))


def test_a_failure_that_is_none_is_found() -> None:
    """And one of the wrong kind."""
    good = Good()
    assert "nothing was raised" in findings(good, Fault("f", lambda: None, Transient))
    wrong = Fault("f", lambda: good.failing.append(Permanent("no")), Transient)
    assert "not Transient" in findings(good, wrong)


def test_the_table_of_faults_is_the_one_that_is_shipped() -> None:
    """Whoever judges by `notifier.post` keeps it; and every status is in one place only."""
    assert (set(PASSING_STATUSES), set(DEAD_STATUSES)) == (PASSING, DEAD)
    said: list[tuple[int, dict[str, str]]] = []

    def answer(status: int, headers: dict[str, str]) -> Callable[[], None]:
        return lambda: said.append((status, headers))

    for fault in http_faults(answer):
        fault.inject()
        error = judge("x", "X", *said[-1])
        assert type(error) is fault.expect, fault.name
        if isinstance(error, Permanent):
            assert error.channel_dead is fault.channel_dead, fault.name
        elif isinstance(error, Transient) and fault.retry_after is not None:
            assert error.retry_after == fault.retry_after, fault.name
    assert judge("x", "X", 204, {}) is None


@pytest.mark.parametrize(
    "text", ["@here", "a @everyone", "<!channel>", "<@U1>", "<https://e|x>", "[x](https://e)", "\x1b[31m"]
)
def test_a_living_mention_is_known_and_can_be_tamed(text: str) -> None:
    """What the kit takes for alive is dead after `tame`, and reads the same."""
    assert living(text)
    assert not living(tame(text))
    assert tame(text).replace("\u200b", "") == text.replace("\x1b", "\\x1b")


@pytest.mark.parametrize("text", ["a@b", "x < 3", "lead 17.5x", "see https://runbook.example/a"])
def test_what_is_no_mention_stays_readable(text: str) -> None:
    """A bare address is one that people can follow, and see where it leads."""
    assert tame(text).replace("\u200b", "") == text
    assert "https://runbook" not in text or tame(text) == text


PARTS = ["](", "@", "@here", "<", "<!", "#", "https://e", "]", "(", "|", "\x1b", "\u202e", "\u200b"]


@given(st.lists(st.one_of(st.sampled_from(PARTS), st.characters()), max_size=8).map("".join))
def test_nothing_is_alive_that_was_tamed(text: str) -> None:
    """Whatever a run's files hold."""
    assert not living(tame(text))
