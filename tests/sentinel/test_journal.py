"""The memory: all of a tick or nothing of it, and no action where it cannot be kept."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from sentinel.errors import StateError
from sentinel.journal import Journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def test_an_error_inside_a_transaction_leaves_nothing_of_it(path: Path) -> None:
    """Cursor and consequence commit together or not at all."""
    journal = Journal(path)

    def fail() -> None:
        with journal.transaction():
            journal.put("meta", name="a", value="1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert journal.rows("SELECT * FROM meta") == []
    with journal.transaction():
        journal.put("meta", name="a", value="2")
    journal.close()
    again = Journal(path)
    assert [row["value"] for row in again.rows("SELECT * FROM meta")] == ["2"]
    again.close()


def test_a_full_disk_is_an_error_of_the_state_and_says_so(path: Path) -> None:
    """SQLite rolls back by itself then; the reason must not be lost in the attempt to do it again."""
    journal = Journal(path)
    pages = journal.rows("PRAGMA page_count")[0][0]
    journal.rows(f"PRAGMA max_page_count = {pages + 2}")

    def fill() -> None:
        with journal.transaction():
            for n in range(100):
                journal.put("meta", name=f"{n}", value="x" * 1000)

    with pytest.raises(StateError, match=r"full.*may not act"):
        fill()
    assert journal.rows("SELECT * FROM meta") == []
    assert StateError.exit_code == 4
    journal.close()


def test_a_newer_schema_is_left_as_it_is(path: Path) -> None:
    """An old program must not write into what it does not understand."""
    Journal(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StateError, match="written by a newer sentinel"):
        Journal(path)


@pytest.mark.parametrize("content", [b"not a database, but long enough to be taken for one" * 20])
def test_a_damaged_file_is_an_error_of_the_state(path: Path, content: bytes) -> None:
    """It is not overwritten."""
    path.write_bytes(content)
    with pytest.raises(StateError, match="not a database"):
        Journal(path)
    assert path.read_bytes() == content


def test_a_reader_reads_beside_an_open_transaction_and_cannot_write(path: Path) -> None:
    """`sentinel status` neither waits for a tick nor disturbs it."""
    journal = Journal(path)
    with journal.transaction():
        journal.put("meta", name="a", value="1")
    reader = Journal(path, read_only=True)
    with journal.transaction():
        journal.put("meta", name="b", value="2")
        assert len(reader.rows("SELECT * FROM meta")) == 1
    assert len(reader.rows("SELECT * FROM meta")) == 2
    with pytest.raises(StateError, match="readonly"), reader.transaction():
        reader.put("meta", name="c", value="3")
    reader.close()
    journal.close()


def test_command_ids_are_never_used_again(path: Path) -> None:
    """Neither while the journal knows of them nor when only the run's own folder does."""
    journal = Journal(path)
    assert journal.next_command_id("a", 0) == 1
    assert journal.next_command_id("a", 17) == 18
    journal.close()
