"""What Prometheus is told: from the journal and the loop's vitals to named numbers. No library, no network.

The journal is opened read-only for each reading, by the thread that reads, as `sentinel status` does; so what
is measured is what would be taken up after a crash, and nobody who asks delays a tick.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from notifier.format import neutral
from sentinel.errors import StateError
from sentinel.journal import Journal
from sentinel.vitals import Vitals

STATES = ("ok", "retrying", "hung", "dead")
"""Of a channel; see sentinel.outbox.ChannelHealth."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name, what it says, and (labels, value) pairs."""

    name: str
    says: str
    samples: tuple[tuple[Mapping[str, str], float], ...]
    kind: Literal["gauge", "counter"] = "gauge"


FAMILIES = {
    "sentinel_mode": "1 with the label mode: observe or act",
    "sentinel_sees": "1 where the last tick was remembered and could read what it watches, else 0",
    "sentinel_remembers": "1 where the journal can be written, else 0: then nothing is decided",
    "sentinel_journal_readable": "1 where the journal could be read for this scrape, else 0",
    "sentinel_last_tick_timestamp_seconds": "when the last tick was committed, about every five seconds",
    "sentinel_blind_runs": "runs that cannot be read",
    "sentinel_runs": "runs, by phase: live, finished, past, gone",
    "sentinel_run_lag_seconds": "seconds since the newest point of a live run",
    "sentinel_run_step": "newest step of a live run",
    "sentinel_run_attempt": "attempt of a live run; a rollback begins the next",
    "sentinel_run_damaged_bytes": "bytes of a run's event files that could not be read",
    "sentinel_alert": "1 for each alert of a live run that is not at rest, with its state",
    "sentinel_alerts_fired_total": "how often alerts have begun to fire, in all runs",
    "sentinel_commands": "commands to trainers, by verb and by what has become of them",
    "sentinel_messages": "messages, by channel and by what has become of them",
    "sentinel_channel_queue": "messages that wait on a channel",
    "sentinel_channel_queue_seconds": "how long the oldest of them has waited",
    "sentinel_channel_state": "1 for the state a channel is in, 0 for the others",
}
"""Every metric beside the histogram `sentinel_tick_seconds`, with what it says."""


def measure(journal: Path, vitals: Vitals, now: float) -> list[Family]:
    """Return every metric as it now is.

    Args:
        journal: the file. vitals: of the loop. now: seconds since the epoch.
    """
    found: dict[str, list[tuple[dict[str, str], float]]] = {name: [] for name in FAMILIES}
    for name, labels, value in _of_vitals(vitals):
        found[name].append((labels, value))
    try:
        read = list(_of_journal(journal, vitals.severities, now))
    except StateError:  # the disk has gone, or its first tick is still to come; the vitals say so
        read = []
        found["sentinel_journal_readable"].append(({}, 0.0))
    else:
        found["sentinel_journal_readable"].append(({}, 1.0))
    for name, labels, value in read:
        found[name].append((labels, value))
    return [
        Family(name, FAMILIES[name], tuple(samples), "counter" if name.endswith("_total") else "gauge")
        for name, samples in found.items()
    ]


def _of_vitals(vitals: Vitals) -> Iterator[tuple[str, dict[str, str], float]]:
    yield "sentinel_mode", {"mode": vitals.mode}, 1.0
    yield "sentinel_sees", {}, float(vitals.sees)
    yield "sentinel_remembers", {}, float(not vitals.lost)
    yield "sentinel_blind_runs", {}, float(len(vitals.blind))


def _of_journal(
    path: Path, severities: Mapping[str, str], now: float
) -> Iterator[tuple[str, dict[str, str], float]]:
    if not path.is_file():
        raise StateError(f"{path}: there is none yet")
    journal = Journal(path, read_only=True)
    try:
        for row in journal.rows("SELECT value FROM meta WHERE name = 'last_tick'"):
            yield "sentinel_last_tick_timestamp_seconds", {}, float(row["value"])
        yield from _runs(journal, now)
        yield from _alerts(journal, severities)
        yield from _counts(
            journal,
            "sentinel_commands",
            "SELECT verb, state, count(*) AS n FROM commands GROUP BY verb, state",
        )
        yield from _channels(journal, now)
    finally:
        journal.close()


def _counts(journal: Journal, name: str, query: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield a row's columns as labels, but for `n`, which is the value."""
    for row in journal.rows(query):
        yield name, {key: str(row[key]) for key in row.keys() if key != "n"}, float(row["n"])  # noqa: SIM118  a Row


def _runs(journal: Journal, now: float) -> Iterator[tuple[str, dict[str, str], float]]:
    phases = {"live": 0, "finished": 0, "past": 0, "gone": 0}
    phases |= {
        r["phase"]: r["n"] for r in journal.rows("SELECT phase, count(*) AS n FROM runs GROUP BY phase")
    }
    for phase, count in phases.items():
        yield "sentinel_runs", {"phase": phase}, float(count)
    for row in journal.rows("SELECT run, attempt, last_step, last_wall FROM runs WHERE phase = 'live'"):
        labels = {"run": neutral(row["run"])}
        yield "sentinel_run_attempt", labels, float(row["attempt"])
        if row["last_step"] is not None:
            yield "sentinel_run_step", labels, float(row["last_step"])
        if row["last_wall"] is not None:
            yield "sentinel_run_lag_seconds", labels, max(0.0, now - row["last_wall"])
    for row in journal.rows("SELECT run, sum(length) AS n FROM damage GROUP BY run"):
        yield "sentinel_run_damaged_bytes", {"run": neutral(row["run"])}, float(row["n"])


def _alerts(journal: Journal, severities: Mapping[str, str]) -> Iterator[tuple[str, dict[str, str], float]]:
    # SQLite takes the state out of the body, so that a thousand runs at rest cost no JSON here.
    for row in journal.rows(
        "SELECT alerts.run, alerts.key, json_extract(body, '$.state') AS state FROM alerts "
        "JOIN runs ON runs.run = alerts.run WHERE runs.phase = 'live' "
        "AND json_extract(body, '$.state') NOT IN ('inactive', 'resolved')"
    ):
        rule, _, capture = str(row["key"]).partition("[")
        labels = {
            "run": neutral(row["run"]),
            "rule": neutral(rule),
            "series": neutral(capture.removesuffix("]")),
            "severity": severities.get(rule, "unknown"),
            "state": row["state"],
        }
        yield "sentinel_alert", labels, 1.0
    yield from _counts(
        journal,
        "sentinel_alerts_fired_total",
        "SELECT severity, count(*) AS n FROM transitions WHERE after = 'firing' "
        "AND before NOT IN ('firing', 'recovering') GROUP BY severity",
    )


def _channels(journal: Journal, now: float) -> Iterator[tuple[str, dict[str, str], float]]:
    yield from _counts(
        journal,
        "sentinel_messages",
        "SELECT channel, state, count(*) AS n FROM messages GROUP BY channel, state",
    )
    health: dict[str, dict[str, str]] = {}
    for row in journal.rows("SELECT value FROM meta WHERE name = 'channels'"):
        health = json.loads(row["value"])
    waiting = {
        row["channel"]: (row["n"], row["since"])
        for row in journal.rows(
            "SELECT channel, count(*) AS n, min(queued) AS since FROM messages "
            "WHERE state IN ('queued', 'dead') GROUP BY channel"
        )
    }
    for channel in _together(health, waiting):
        count, since = waiting.get(channel, (0, now))
        yield "sentinel_channel_queue", {"channel": channel}, float(count)
        yield "sentinel_channel_queue_seconds", {"channel": channel}, max(0.0, now - since)
        for state in STATES:
            known = health.get(channel, {}).get("state")
            yield "sentinel_channel_state", {"channel": channel, "state": state}, float(known == state)


def _together(*names: Iterable[str]) -> list[str]:
    return sorted({name for each in names for name in each})
