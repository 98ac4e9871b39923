"""What the journal knows, for people and machines; reads beside a running sentinel and changes nothing."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, TextIO

from notifier.format import neutral, utc
from sentinel.errors import RunGoneError
from sentinel.journal import Journal
from sentinel.lock import is_held
from sentinel.questions import open_questions
from sentinel.replay import finite
from sentinel.silences import GOING, Silences
from sentinel.state import JOURNAL, state_folder


def read_status(logdir: Path, chosen: Path | None, now: float = math.inf) -> dict[str, Any]:
    """Collect runs, alerts, commands, messages, and the silences in force at a wall time.

    Raises:
        RunGoneError: no sentinel ever watched this folder with this state.
    """
    folder = state_folder(logdir, chosen)
    path = folder / JOURNAL
    if not path.is_file():
        raise RunGoneError(
            f"{logdir}: no sentinel has watched it (no {path}); start one with: sentinel run {logdir}"
        )
    journal = Journal(path, read_only=True)
    silences = Silences(journal, logdir.resolve().name)
    try:
        return {
            "logdir": str(logdir),
            "state": str(folder),
            "running": is_held(folder),
            "mode": _meta(journal, "mode"),
            "last_tick": _number(_meta(journal, "last_tick")),
            "runs": [
                _run(journal, dict(row), silences, now)
                for row in journal.rows("SELECT * FROM runs ORDER BY run")
            ],
            "channels": json.loads(_meta(journal, "channels") or "{}"),
            "messages": _messages(journal),
            "silences": [dataclasses.asdict(silence) for silence in silences.active(now)],
        }
    finally:
        journal.close()


def _meta(journal: Journal, name: str) -> str | None:
    rows = journal.rows("SELECT value FROM meta WHERE name = ?", name)
    return rows[0]["value"] if rows else None


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)


def _run(journal: Journal, row: dict[str, Any], silences: Silences, now: float) -> dict[str, Any]:
    run = row["run"]
    acked = silences.acked()
    alerts = [
        json.loads(r["body"]) for r in journal.rows("SELECT body FROM alerts WHERE run = ? ORDER BY key", run)
    ]
    commands = journal.rows("SELECT * FROM commands WHERE run = ? ORDER BY id", run)
    marks = journal.rows("SELECT value FROM meta WHERE name = ?", f"marks/{run}")
    blind = journal.rows(
        "SELECT count(*) AS n, coalesce(sum(length), 0) AS bytes FROM damage WHERE run = ?", run
    )[0]
    return {
        "run": run,
        "path": row["path"],
        "phase": row["phase"],
        "attempt": row["attempt"],
        "step": row["last_step"],
        "last_point": row["last_wall"],
        "trainer": json.loads(row["trainer"]) if row["trainer"] else None,
        "alerts": [
            {
                **_speakable(alert),
                "silenced": silence.words if (silence := silences.over(run, alert["key"], now)) else None,
                "acked": acked.get(f"{run}/{alert['key']}#{alert['number']}"),
            }
            for alert in alerts
            if alert["state"] != "inactive"
        ],
        "fired": _fired(journal, run),
        "gates": json.loads(_meta(journal, f"gates/{run}") or "{}"),
        "marks": json.loads(marks[0]["value"]) if marks else {},
        "commands": [
            {
                k: c[k]
                for k in (
                    "id",
                    "key",
                    "verb",
                    "state",
                    "asked_step",
                    "step",
                    "checkpoint",
                    "checkpoint_step",
                    "reason",
                )
            }
            for c in commands
        ],
        "questions": [
            {name: q[name] for name in ("id", "key", "what", "asked", "deadline")}
            for q in open_questions(journal)
            if q["run"] == run
        ],
        "rewinds": [
            {"attempt": r["attempt"], "to_step": r["to_step"], "wall_time": r["wall_time"]}
            for r in journal.rows("SELECT * FROM rewinds WHERE run = ? ORDER BY attempt", run)
        ],
        "blind": {"stretches": blind["n"], "bytes": blind["bytes"]},
    }


def _fired(journal: Journal, run: str) -> dict[str, int]:
    """Count by severity how often an alert of this run has begun to fire."""
    rows = journal.rows(
        "SELECT severity, count(*) AS n FROM transitions WHERE run = ? AND after = 'firing' "
        "AND before NOT IN ('firing', 'recovering') GROUP BY severity",
        run,
    )
    return {row["severity"]: row["n"] for row in rows}


def _speakable(alert: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN and no infinity, which is what a diverged run's values are: they are told in words."""
    return {**alert, "value": finite(alert["value"]), "limit": finite(alert["limit"])}


def _messages(journal: Journal) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for row in journal.rows("SELECT channel, state, count(*) AS n FROM messages GROUP BY channel, state"):
        counts.setdefault(row["channel"], {})[row["state"]] = row["n"]
    return counts


def _number_text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"


def _say(line: str, out: TextIO) -> None:
    """Print one line, after an empty one if it begins with a break; whatever stands in it, it stays one."""
    empty, line = ("\n", line[1:]) if line.startswith("\n") else ("", line)
    print(f"{empty}{neutral(line)}", file=out)


def print_status(status: dict[str, Any], out: TextIO) -> None:
    """Print a status as a person reads it: sick things first."""
    running = "running" if status["running"] else "NOT RUNNING"
    _say(f"sentinel {running} on {status['logdir']} (mode {status['mode']}, state {status['state']})", out)
    for run in sorted(status["runs"], key=lambda r: -len(r["alerts"])):
        step = "no point yet" if run["step"] is None else f"step {run['step']}"
        _say(f"\n{run['run']}: {run['phase']}, {step}, attempt {run['attempt']}", out)
        for alert in run["alerts"]:
            value = "" if alert["value"] is None else f", value {_number_text(alert['value'])}"
            limit = "" if alert["limit"] is None else f" (limit {_number_text(alert['limit'])})"
            onset = f", since step {alert['onset'][3]}" if alert["onset"] else ""
            _say(f"  {alert['state']:<10} {alert['key']}{value}{limit}{onset}", out)
            if alert["acked"] and alert["state"] in GOING:
                _say(f"             {alert['acked']} has it in hand", out)
            if alert["silenced"]:
                _say(f"             silent: {alert['silenced']}", out)
        for each in run["questions"]:
            until = f"by {utc(each['deadline'])}; sentinel approve {each['id']}"
            _say(f"  asks       {each['id']}: may it {each['what']}? Answer {until}", out)
        for name, gate in run["gates"].items():
            reason = f": {gate['reason']}" if gate["reason"] else ""
            _say(f"  gate       {name} (at {gate['at']}) {gate['verdict']}{reason}", out)
        for key, mark in run["marks"].items():
            if mark in ("nodata", "error"):
                _say(f"  {mark:<10} {key}", out)
        other = [key for key, mark in run["marks"].items() if mark == "inapplicable"]
        if other:
            _say(f"  not for this run, by their `when`: {', '.join(other)}", out)
        for command in run["commands"]:
            target = f" -> {command['checkpoint']}" if command["checkpoint"] else ""
            reason = (
                f": {command['reason']}" if command["state"] not in ("done",) and command["reason"] else ""
            )
            _say(f"  command {command['id']:<3} {command['verb']} {command['state']}{target}{reason}", out)
        if run["blind"]["stretches"]:
            _say(
                f"  blind      {run['blind']['stretches']} damaged stretches, {run['blind']['bytes']} bytes",
                out,
            )
    for silence in status["silences"]:
        about = f"{silence['run']} {silence['rule']} until {utc(silence['ends'])}"
        _say(f"\nsilence {silence['id']}: {about}, {silence['who']}: {silence['why']}", out)
    for channel, counts in status["messages"].items():
        health = status["channels"].get(channel, {"state": "ok", "reason": ""})
        trouble = "" if health["state"] == "ok" else f" ({health['state']}: {health['reason']})"
        told = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
        _say(f"\n{channel}: {told}{trouble}", out)
