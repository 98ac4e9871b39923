"""The contract kit on it: `python -m pytest examples/notifier`."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import team_log

from notifier.base import Permanent, Transient
from notifier.contract import Arrived, Fault, check


def test_it_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full, a folder that is gone, and everything that a run's files could do to a message."""
    path = tmp_path / "log.jsonl"
    whole = Path.open
    failures: list[int] = []

    def failing(self: Path, *arguments: object, **options: object) -> object:
        if failures and self == path:
            raise OSError(failures.pop(), "no")
        return whole(self, *arguments, **options)  # type: ignore[call-overload]  # handed on as it came

    monkeypatch.setattr(Path, "open", failing)

    def arrived() -> list[Arrived]:
        bodies = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [Arrived(body["text"], body["key"]) for body in bodies]

    faults = [
        Fault("full disk", lambda: failures.append(errno.ENOSPC), Transient),
        Fault("no folder", lambda: failures.append(errno.ENOENT), Permanent, channel_dead=True),
    ]
    assert check(lambda: team_log.TeamLog(path=str(path)), faults=faults, arrived=arrived) == []
