"""What must hold throughout: each check reads the journal beside the sentinel, and the world's own memory."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

from sentinel.actuator import State
from sentinel.config import Settings
from sentinel.discover import scan
from sentinel.replay import Recording, judge_run
from tests.soak.channels import Delivery
from tests.soak.disk import connect
from tests.soak.trainer import Trainer

MOST_ROLLBACKS = 2
"""As the rung's `max` in the rules has it, over all attempts and restarts of a run."""

MOST_SICK_POINTS = 30
"""Points of a sick run, seen by an undisturbed sentinel, within which it must have been decided upon."""

PAST_THE_JOURNAL = ("/state/", "/reload/")
"""How the keys of messages begin that are told also while the journal cannot be written."""


class Broken(AssertionError):  # noqa: N818  an invariant is broken
    """An invariant does not hold."""


def rows(journal: Path, query: str, *arguments: object) -> list[dict[str, Any]]:
    """Read the journal past the sentinel."""
    with closing(connect(f"{journal.as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query, arguments)]


def intact(journal: Path) -> None:
    """SQLite finds nothing wrong."""
    found = rows(journal, "PRAGMA integrity_check")
    if [list(row.values()) for row in found] != [["ok"]]:
        raise Broken(f"the journal is damaged: {found[:3]}")


def once(trainers: Iterable[Trainer], journal: Path) -> None:
    """No command was begun twice, and none that nobody wrote down."""
    for trainer in trainers:
        twice = {number: count for number, count in trainer.effects.items() if count > 1}
        if twice:
            raise Broken(f"run {trainer.name}: commands carried out more than once: {twice}")
        if trainer.effects:
            known = {r["id"] for r in rows(journal, "SELECT id FROM commands WHERE run = ?", trainer.name)}
            if unknown := trainer.effects.keys() - known:
                raise Broken(f"run {trainer.name}: carried out and not in the journal: {unknown}")


def budgets(trainers: Iterable[Trainer], journal: Path) -> None:
    """No run went back oftener than its limit, and no well one was asked for anything by a rule."""
    asked: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows(journal, "SELECT run, id, verb, key, request FROM commands"):
        asked[row["run"]].append(row)
    for trainer in trainers:
        by_rule = [row for row in asked[trainer.name] if row["request"] is None]
        if by_rule and not trainer.ever_sick:
            raise Broken(f"run {trainer.name} was never sick and was asked for {by_rule}")
        back = [row["id"] for row in by_rule if row["verb"] == "rollback"]
        if len(back) > MOST_ROLLBACKS:
            raise Broken(f"run {trainer.name} was to go back {len(back)} times: commands {back}")


def told(journal: Path, delivered: Mapping[str, Sequence[Delivery]], ended: Mapping[int, str]) -> None:
    """Messages arrive in the order of their thread, and twice only where a kill lies between, or an end
    before the thread's first message could be made to say it too: a second delivery brings that.
    """
    queued: dict[tuple[str, str], int] = {}
    thread: dict[tuple[str, str], str] = {}
    opened: dict[tuple[str, str], str] = {}
    for row in rows(journal, "SELECT id, key, channel, thread FROM messages ORDER BY id"):
        queued[row["channel"], row["key"]] = row["id"]
        thread[row["channel"], row["key"]] = row["thread"]
        opened.setdefault((row["channel"], row["thread"]), row["key"])
    for channel, deliveries in delivered.items():
        first: dict[str, Delivery] = {}
        last: dict[str, int] = {}
        for each in deliveries:
            place = channel, each.key
            if place not in queued:
                if not each.key.startswith(PAST_THE_JOURNAL):
                    raise Broken(f"{channel} was told {each.key}, of which the journal knows nothing")
                continue
            if each.key in first:
                before = first[each.key]
                owed = before.thread_ref is not None and not each.edited
                if before.life == each.life or not (owed or ended.get(before.life) == "killed"):
                    how = ended.get(before.life, "goes on")
                    raise Broken(
                        f"{channel} was told {each.key} twice; life {before.life} {how}, now {each.life}"
                    )
                first[each.key] = each
                continue
            first[each.key] = each
            if last.get(thread[place], 0) > queued[place]:
                raise Broken(f"{channel}: {each.key} came after a later message of its thread")
            last[thread[place]] = queued[place]


def all_told(
    journal: Path, delivered: Mapping[str, Sequence[Delivery]], refused: Mapping[str, set[str]]
) -> None:
    """At the end every message has arrived, but for those that the other side would not have."""
    arrived = {(channel, each.key) for channel, found in delivered.items() for each in found}
    for row in rows(journal, "SELECT key, channel, state, reason FROM messages"):
        place = row["channel"], row["key"]
        if row["state"] == "failed" and row["key"] in refused.get(row["channel"], ()):
            continue
        if row["state"] != "sent" or place not in arrived:
            raise Broken(f"{row['channel']} was never told {row['key']} ({row['state']}: {row['reason']})")


def damage_told(journal: Path) -> None:
    """Each stretch that could not be read is in a message."""
    bodies = [
        json.loads(r["body"]) for r in rows(journal, "SELECT body FROM messages WHERE key LIKE '%/blind/%'")
    ]
    texts = "\n".join(f"{body['run']} {body['happened']}" for body in bodies)
    for row in rows(journal, "SELECT * FROM damage"):
        what = f"{row['length']} bytes at byte {row['offset']}" if row["length"] else "all of it"
        if f"{row['path']}: {what}" not in texts:
            raise Broken(f"run {row['run']}: blind for {row['path']} at {row['offset']}, and nobody was told")


def settled(trainers: Iterable[Trainer], journal: Path) -> None:
    """At the end each command has come to something, unless its run was deleted."""
    names = {trainer.name for trainer in trainers}
    for row in rows(journal, "SELECT run, id, verb, state FROM commands"):
        if row["run"] in names and not State(row["state"]).settled:
            raise Broken(f"run {row['run']}: command {row['id']} {row['verb']} is for ever {row['state']}")


def watchdog(journal: Path, seconds: float) -> None:
    """The alert that always fires comes at its interval, whatever restarts lie between."""
    query = "SELECT queued FROM messages WHERE channel = 'console' AND key LIKE '/watchdog/%' ORDER BY id"
    at = [row["queued"] for row in rows(journal, query)]
    early = [later - before for before, later in pairwise(at) if 0 <= later - before < seconds]
    if early or not at:
        raise Broken(f"{len(at)} watchdog messages, too early after the one before by {early}")


def decided(trainer: Trainer, journal: Path) -> None:
    """A sick run, long enough before an undisturbed sentinel, is under its alert, and something was asked."""
    query = "SELECT body FROM alerts WHERE run = ? AND key = 'loss_high'"
    states = [json.loads(row["body"])["state"] for row in rows(journal, query, trainer.name)]
    commands = rows(journal, "SELECT verb, state FROM commands WHERE run = ?", trainer.name)
    if not states or states[0] not in ("firing", "probation", "recovering") or not commands:
        raise Broken(
            f"run {trainer.name} is sick since step {trainer.onset}; alert {states}, asked {commands}"
        )


def as_replayed(trainer: Trainer, settings: Settings, journal: Path, logdir: Path) -> int:
    """What was decided live is what an undisturbed replay of the files decides; returns how much that was."""
    found = scan(logdir)[trainer.name]
    outcome = judge_run(Recording(trainer.name, found.path, tuple(found.event_files)), [settings])[0]
    replayed = [line for line in outcome.lines() if line["from"] != line["to"]]
    until = outcome.ended or 0.0
    query = "SELECT * FROM transitions WHERE run = ? AND before != after ORDER BY id"
    live = [row for row in rows(journal, query, trainer.name) if row["wall_time"] <= until]
    left = [(t["key"], t["before"], t["after"], t["step"], t["onset_step"]) for t in live]
    right = [
        (t["rule"], t["from"], t["to"], t["step"], t["onset_step"])
        for t in replayed
        if t["wall_time"] <= until
    ]
    if left != right:
        at = next((i for i, pair in enumerate(zip(left, right, strict=False)) if pair[0] != pair[1]), None)
        at = min(len(left), len(right)) if at is None else at
        raise Broken(
            f"run {trainer.name}: live and replay part at transition {at} of {len(left)} and {len(right)}:\n"
            f"  live   {left[at : at + 3]}\n  replay {right[at : at + 3]}"
        )
    return len(left)
