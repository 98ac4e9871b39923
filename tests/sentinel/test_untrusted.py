"""Names from event files reach a terminal as visible text, whatever command prints them."""

from __future__ import annotations

import json
import os
import time
from contextlib import closing
from pathlib import Path

import pytest

from sentinel.cli import main
from sentinel.discover import scan
from sentinel.foreign import ForeignCatalogue, Patterns
from sentinel.journal import Journal
from tests.sentinel.event_files import scalar

EVIL = "loss\x1b]0;owned\x07\x1b[2J\u202e\r\n<!channel>"
RULES = """
version = 1
[[rule]]
name = "high"
each = "**"
expr = "x > 50"
severity = "warning"
summary = "{tag} is {value}"
"""

FORBIDDEN = {"\x1b", "\x07", "\r", "\u202e", "\x9b", "\x00"}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "a"
    folder.mkdir(parents=True)
    begin = time.time() - 100
    points = [scalar(EVIL, step, 99.0, begin + step) for step in range(20)]
    (folder / "events.out.tfevents.1700000000.t").write_bytes(b"".join(points))
    (tmp_path / "sentinel.toml").write_text(RULES)
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ["replay", "runs/a"],
        ["replay", "--json", "runs/a"],
        ["lint", "runs/a"],
        ["explain", "high", "runs/a"],
        ["init", "runs"],
        ["gate", "runs/a", "--pack", "td3"],
    ],
    ids=lambda arguments: "-".join(arguments[:2]),
)
def test_no_command_hands_a_terminal_what_an_event_file_says(
    run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """No escape sequence, no bell, no return of the carriage, no reversal of the writing direction."""
    main(arguments)
    said = capsys.readouterr()
    text = (said.out + said.err).replace("\r\n", "\n")
    assert text
    assert not FORBIDDEN & set(text), repr(text[:500])


def test_init_writes_no_such_name_into_the_file(run: Path, tmp_path: Path) -> None:
    """A name that could end a line would be a line of configuration."""
    (tmp_path / "sentinel.toml").unlink()
    main(["init", "runs"])
    written = (tmp_path / "sentinel.toml").read_text() if (tmp_path / "sentinel.toml").exists() else ""
    assert not FORBIDDEN & set(written)


@pytest.mark.parametrize(
    "name",
    ["events.out.tfevents.\x1b[2J", "events.out.tfevents.\n", os.fsdecode(b"events.out.tfevents.\xff")],
    ids=ascii,
)
def test_an_event_file_that_cannot_be_named_is_told_and_not_read(run: Path, name: str) -> None:
    """Its folder's other files are; before, a byte that is no text ended the sentinel."""
    (run / name).write_bytes(b"")
    found = scan(run.parent)
    assert [path.name for path in found["a"].event_files] == ["events.out.tfevents.1700000000.t"]
    [told] = found.unreadable
    assert told.path.isprintable()
    assert "rename" in told.reason


def test_half_a_surrogate_pair_can_be_remembered(tmp_path: Path) -> None:
    """JSON may hold one, a trainer's reason for example, and SQLite does not: it is kept as text."""
    reason = json.loads('"no \\ud800 such"')
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        with journal.transaction():
            journal.put("meta", name=f"a{reason}", value=reason)
        [row] = journal.rows("SELECT value FROM meta WHERE name = ?", f"a{reason}")
    assert row["value"] == r"no \ud800 such"


@pytest.mark.parametrize("name", ["rl_model_\x1b[2J_5.zip", "rl_model_\n_5.zip"])
def test_a_checkpoint_that_cannot_be_named_is_no_target(tmp_path: Path, name: str) -> None:
    """Its name would stand in a letter, in messages and on a command line."""
    (tmp_path / name).write_bytes(b"")
    patterns = Patterns(("rl_model_{word}_{step}.zip",), (".",), 0.0)
    assert ForeignCatalogue(tmp_path, patterns, time.time, time.monotonic).list() == []
    (tmp_path / "rl_model_a_5.zip").write_bytes(b"")
    assert len(ForeignCatalogue(tmp_path, patterns, time.time, time.monotonic).list()) == 1
