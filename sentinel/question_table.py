"""The open questions as `sentinel approve` lists them; read beside a running sentinel, nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TextIO

from rich.table import Table
from rich.text import Text

from notifier.format import utc
from sentinel.journal import Journal
from sentinel.questions import UNANSWERED, find, has_questions, open_questions
from sentinel.state import JOURNAL, state_folder
from sentinel.terminal import console_on

_SHOWN = ("id", "run", "key", "number", "verb", "what", "asked", "deadline", "unanswered")


def read_questions(logdir: Path, chosen: Path | None) -> list[dict[str, Any]]:
    """Read the questions that wait for an answer, the most urgent first; none where no sentinel ever ran."""
    path = state_folder(logdir, chosen) / JOURNAL
    if not path.exists():
        return []
    with closing(Journal(path, read_only=True)) as journal:
        found = open_questions(journal) if has_questions(journal) else ()
        return [{name: row[name] for name in _SHOWN} for row in found]


def exists(logdir: Path, chosen: Path | None, number: int) -> bool:
    """Whether a question of this number was ever put."""
    path = state_folder(logdir, chosen) / JOURNAL
    if not path.exists():
        return False
    with closing(Journal(path, read_only=True)) as journal:
        return has_questions(journal) and find(journal, number) is not None


def as_json(questions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Render them as JSON can hold them: `default` is what follows without an answer."""
    return {
        "questions": [
            {("default" if name == "unanswered" else name): value for name, value in row.items()}
            for row in questions
        ]
    }


def print_questions(questions: Sequence[dict[str, Any]], now: float, out: TextIO) -> None:
    """Print them as a table, with the time that is left."""
    console = console_on(out)
    if not questions:
        console.print(Text("nothing is asked"))
        return
    table = Table(box=None, pad_edge=False)
    for name in ("ID", "RUN", "ALERT", "MAY IT", "TIME LEFT", "THEN"):
        table.add_column(name, overflow="fold")
    for row in questions:
        table.add_row(
            Text(str(row["id"]), style="bold"),
            Text(row["run"]),
            Text(row["key"]),
            Text(row["what"]),
            Text(_left(row["deadline"] - now, row["deadline"])),
            Text(UNANSWERED[row["unanswered"]]),
        )
    console.print(table)


def _left(seconds: float, deadline: float) -> str:
    if seconds <= 0:
        return f"over since {utc(deadline)}"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
