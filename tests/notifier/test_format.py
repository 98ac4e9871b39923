"""Rendering: what a person reads, Slack's limits, and untrusted text without its power."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.contract import hostile, sample
from notifier.format import blocks, clip, fallback, neutral, plain, utc
from notifier.message import Message, facts
from tests.notifier.test_message import messages
from tests.slack_stub import block_errors, block_texts, units

PLAIN = """\
CRITICAL driving/seed047 · actor Q leaves the critics · firing
  actor Q 56.1 vs critic 3.2 (lead 17.5x) at step 1 300, onset 1 200
  since step   1 200
  value        17.5, limit 2
  done         checkpoint asked for
  checkpoint   00-00001300 (suspect)
  rule         td3/actor_exploits_critic
  try          set q_features = critic, or reset the actor"""


def test_plain_text_reads_as_intended() -> None:
    """The golden block: what happened, since when, value and limit, what was done, what to try."""
    assert plain(sample()) == PLAIN


def test_slack_blocks_read_as_intended() -> None:
    """The golden blocks: title, state, what happened, facts as fields, advice, source and time."""

    def said(text: str) -> dict[str, object]:
        return {"type": "plain_text", "text": text, "emoji": False}

    def field(label: str, value: str) -> dict[str, object]:
        return {"type": "mrkdwn", "text": f"*{label}*\n`{value}`", "verbatim": True}

    assert blocks(sample()) == [
        {"type": "header", "text": said("actor Q leaves the critics")},
        {"type": "context", "elements": [said("🔴 critical · firing")]},
        {
            "type": "section",
            "text": said("actor Q 56.1 vs critic 3.2 (lead 17.5x) at step 1 300, onset 1 200"),
        },
        {
            "type": "section",
            "fields": [
                field("since step", "1 200"),
                field("value", "17.5, limit 2"),
                field("done", "checkpoint asked for"),
                field("checkpoint", "00-00001300 (suspect)"),
            ],
        },
        {"type": "section", "text": said("What to try: set q_features = critic, or reset the actor")},
        {
            "type": "context",
            "elements": [said("driving/seed047 · td3/actor_exploits_critic · 2023-11-14 22:13:20 UTC")],
        },
    ]


@given(messages)
def test_any_message_keeps_slacks_limits(message: Message) -> None:
    """A message that Slack refuses is a message that nobody reads."""
    made = blocks(message)
    assert block_errors(made) == []
    assert units(fallback(message)) <= 3000
    json.dumps(made).encode()


@pytest.mark.parametrize("message", list(hostile()), ids=lambda message: message.key)
def test_a_hostile_message_keeps_slacks_limits_too(message: Message) -> None:
    """Also when every text is far too long, empty, or made of escapes."""
    made = blocks(message)
    assert block_errors(made) == []
    assert sum(units(text["text"]) for block in made for text in block_texts(block)) <= 9_000


@given(st.text(st.characters(codec=None)))
def test_untrusted_text_cannot_act_on_a_terminal(name: str) -> None:
    """No escape, control character, bidi override or forged line is left in a name."""
    shown = neutral(name)
    assert not any(unicodedata.category(c) in {"Cc", "Cs", "Co", "Zl", "Zp"} for c in shown)
    assert not {c for c in shown if unicodedata.category(c) == "Cf"} - {"\u200c", "\u200d"}
    shown.encode()


def test_an_escape_is_shown_and_not_dropped() -> None:
    """Whoever looks into a strange name should see what is in it."""
    assert neutral("a\x1b[2Jb\nc\u202ed") == r"a\x1b[2Jb\nc\u202ed"


def test_lines_of_a_message_cannot_pass_for_another_message() -> None:
    """Only the headline starts at the left edge."""
    forged = replace(sample(), run="a\nFATAL x", happened="one\nFATAL forged", advice="two\r\nFATAL forged")
    first, *rest = plain(forged).split("\n")
    assert first.startswith("CRITICAL a\\nFATAL x")
    assert all(line.startswith("  ") for line in rest)


@pytest.mark.parametrize(
    "evil",
    [
        "<!channel>",
        "<!here|x>",
        "<@U0123>",
        "<#C1>",
        "<https://e.example|click>",
        "<mailto:a@b>",
        "&lt;!here&gt;",
    ],
)
def test_slacks_control_sequences_are_escaped_everywhere(evil: str) -> None:
    """A run called `<!channel>` must not wake the whole company."""
    message = replace(
        sample(),
        run=evil,
        rule=evil,
        title=evil,
        state=evil,
        happened=evil,
        advice=evil,
        facts=facts([(evil, evil)]),
    )
    shown = [text["text"] for block in blocks(message) for text in block_texts(block)] + [fallback(message)]
    for text in shown:
        assert "<" not in text
        assert ">" not in text
        unescaped = text.replace("&lt;", "").replace("&gt;", "").replace("&amp;", "")
        assert "&" not in unescaped


def test_backticks_cannot_leave_the_code_span() -> None:
    """A value stands between backticks, where Slack parses no markup; it must not bring its own."""
    [fields] = [
        b["fields"]
        for b in blocks(replace(sample(), facts=facts([("a*b", "`x` *y* _z_\n@here")])))
        if "fields" in b
    ]
    assert fields[0]["text"] == "*a∗b*\n`'x' ∗y∗ _z_\\n@here`"


@given(st.text(st.characters(codec=None), max_size=60), st.integers(1, 40))
def test_a_cut_text_fits_and_says_so(text: str, limit: int) -> None:
    """The limit holds in the units that Slack counts, and no character is cut in two."""
    cut = clip(text, limit)
    fits = sum(2 if ord(c) > 0xFFFF else 1 for c in text) <= limit
    assert sum(2 if ord(c) > 0xFFFF else 1 for c in cut) <= limit
    assert cut == text if fits else (cut.endswith("…") and text.startswith(cut[:-1]))


def test_a_time_that_is_none_is_said() -> None:
    """A broken wall time in an event file must not cost the message."""
    assert utc(1_700_000_000.9) == "2023-11-14 22:13:20 UTC"
    assert utc(float("inf")) == "unknown time (inf)"
    assert utc(float("nan")) == "unknown time (nan)"
