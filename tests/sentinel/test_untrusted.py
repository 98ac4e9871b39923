"""Names from event files reach a terminal as visible text, whatever command prints them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sentinel.cli import main
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
