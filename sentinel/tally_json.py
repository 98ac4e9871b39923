"""A backtest for machines: one object a line, told apart by `type`. docs/backtests.md describes each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sentinel.tally import Alarm, Behind, RuleTally, RungTally, RunTally, Tally


def tally_as_json(found: Tally) -> Iterator[dict[str, Any]]:
    """Yield `transition` and `run` lines run by run, then `rule`, `rung` and `total` lines."""
    for run in found.runs:
        for line in run.outcome.lines():
            yield {"type": "transition", **line}
        yield _run(run)
    yield from map(_rule, found.rules)
    yield from map(_rung, found.rungs)
    yield _total(found)


def _run(run: RunTally) -> dict[str, Any]:
    outcome, worst = run.outcome, run.worst
    return {
        "type": "run",
        "run": outcome.run,
        "path": str(outcome.folder),
        "standing": run.standing,
        "severity": worst.rule.severity if worst else None,
        "error": outcome.error or None,
        "points": outcome.points,
        "tags": outcome.tags,
        "began": outcome.began,
        "ended": outcome.ended,
        "run_step": outcome.last_step,
        "attempts": len(outcome.left) + 1,
        "alarms": len(run.alarms),
        "rules": run.rules,
        "rules_judged": run.judged,
        "unjudged": dict(outcome.unjudged),
        "blind": [
            {"file": hurt.path, "offset": hurt.offset, "bytes": hurt.length, "reason": hurt.reason}
            for hurt in outcome.hurt
        ],
        "after_action": _behind(run.behind),
    }


def _behind(behind: Behind | None) -> dict[str, Any] | None:
    if behind is None:
        return None
    return {
        "verb": behind.verb,
        "rule": behind.key,
        "run_step": behind.at.run_step,
        "wall_time": behind.at.wall_time,
        "steps": behind.steps,
        "seconds": behind.seconds,
        "alert_lasted": behind.lasted,
    }


def _rule(rule: RuleTally) -> dict[str, Any]:
    return {
        "type": "rule",
        "rule": rule.rule.name,
        "severity": rule.rule.severity,
        "runs_judged": rule.judged,
        "runs_touched": rule.touched,
        "points": rule.points,
        "alarms": rule.alarms,
        "alarms_per_million_points": rule.per_million,
        "median_first_step": rule.median_step,
        "earliest": _alarm(rule.earliest),
        "runs_acted_on": dict(sorted(rule.deeds.items())),
        "runs_withheld": dict(sorted(rule.withheld.items())),
        "runs_unjudged": dict(rule.reasons.most_common()),
    }


def _alarm(alarm: Alarm | None) -> dict[str, Any] | None:
    if alarm is None:
        return None
    return {
        "run": alarm.run,
        "rule": alarm.key,
        "run_step": alarm.at.run_step,
        "wall_time": alarm.at.wall_time,
        "onset_run_step": alarm.onset.run_step if alarm.onset else None,
        "attempt": alarm.attempt,
    }


def _rung(rung: RungTally) -> dict[str, Any]:
    return {
        "type": "rung",
        "ladder": rung.ladder,
        "rung": rung.rung + 1,
        "verb": rung.verb,
        "rules": rung.rules,
        "runs": rung.runs,
        "times": rung.times,
        "first_steps": sorted(rung.first),
        "targets_known": rung.targets,
        "withheld": dict(rung.withheld.most_common()),
    }


def _total(found: Tally) -> dict[str, Any]:
    acted = [run.behind for run in found.runs if run.behind is not None]
    lasting = [one for one in acted if one.lasted]
    standings = [run.standing for run in found.runs]
    return {
        "type": "total",
        "runs": len(found.runs),
        "points": sum(run.outcome.points for run in found.runs),
        "standings": {name: standings.count(name) for name in ("fired", "quiet", "unjudged", "error")},
        "after_action": {
            "runs": len(acted),
            "steps": sum(one.steps for one in acted),
            "seconds": sum(one.seconds for one in acted),
        },
        "after_action_alert_lasted": {
            "runs": len(lasting),
            "steps": sum(one.steps for one in lasting),
            "seconds": sum(one.seconds for one in lasting),
        },
    }
