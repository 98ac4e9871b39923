"""Sick logs: numbers that are none, series that freeze, runs that slow down or hang, and axes that mislead.

The disturbances of an axis (a gap, a rewind, a new name) are no faults: each is followed by one, an actor
that leaves its critics, so that a run shows both what they make a rule say and what they make it miss.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Callable

from rules.generators import faults, learning
from rules.generators.trace import BEGIN, SECONDS_PER_STEP, Clock, Place, Rewind, Series, Setting, Trace

ACTOR_Q, CRITIC_LOSS = "debug/actor_q_mean", "train/critic_loss"


def nan_once(rng: random.Random, setting: Setting) -> Trace:
    """1, 3 or 10 points of the critics' loss are NaN; then it is finite again."""
    many = {1: 1, 2: 3, 3: 10}[setting.severity]
    return _replaced(rng, setting, [CRITIC_LOSS], lambda past, _: math.nan if past < many else None)


def inf_once(rng: random.Random, setting: Setting) -> Trace:
    """1, 3 or 10 points of the critics' loss are infinite; then it is finite again."""
    many = {1: 1, 2: 3, 3: 10}[setting.severity]
    return _replaced(rng, setting, [CRITIC_LOSS], lambda past, _: math.inf if past < many else None)


def nan_forever(rng: random.Random, setting: Setting) -> Trace:
    """NaN from the onset on: in one gradient, in the losses, or in everything but the episodes."""
    tags = {
        1: ["gradients/actor_mlp_norm"],
        2: [CRITIC_LOSS, "train/actor_loss"],
        3: [ACTOR_Q, "debug/q1_mean", "debug/q2_mean", CRITIC_LOSS, "train/actor_loss", "debug/td_error_q1"],
    }[setting.severity]
    return _replaced(rng, setting, tags, lambda _past, _value: math.nan)


def frozen(rng: random.Random, setting: Setting) -> Trace:
    """The critics' loss is logged as one number over and over: 60 points, 200, or for ever."""
    many = {1: 60, 2: 200, 3: setting.n}[setting.severity]
    return _replaced(rng, setting, [CRITIC_LOSS], lambda past, value: value if past < many else None)


def _replaced(
    rng: random.Random, setting: Setting, tags: list[str], value: Callable[[int, float], float | None]
) -> Trace:
    """Put value(points since onset, value at onset) in the place of a healthy run's values, unless None."""
    trace = learning.run(learning.warmup, rng, setting)
    begin = setting.begin
    for tag in tags:
        points = trace.series[tag]
        for index in range(begin, len(points)):
            put = value(index - begin, points[begin][2])
            if put is not None:
                points[index] = (*points[index][:2], put)
    return _marked(trace, begin)


def slowdown(rng: random.Random, setting: Setting) -> Trace:
    """The run loses 30, 50 or 80 % of its speed."""
    slower = 1 / (1 - {1: 0.3, 2: 0.5, 3: 0.8}[setting.severity])
    trace = learning.run(learning.warmup, rng, setting)
    begin = setting.begin
    since = trace.series[ACTOR_Q][begin][1]
    _rewall(trace.series, lambda wall: wall if wall <= since else since + (wall - since) * slower)
    return _marked(trace, begin)


def hang(rng: random.Random, setting: Setting) -> Trace:
    """The run falls silent: for 10 minutes, half an hour, or three hours, and says nothing after."""
    silence = {1: 600.0, 2: 1800.0, 3: 10800.0}[setting.severity]
    trace = learning.run(learning.warmup, rng, setting)
    begin = setting.begin
    since = trace.series[ACTOR_Q][begin - 1][1] if begin else BEGIN
    for points in trace.series.values():
        points[:] = [point for point in points if point[1] <= since]
    begin = max(begin - 1, 0)
    _marked(trace, begin)
    trace.until = since + max(silence, 60 * setting.cadence * SECONDS_PER_STEP)
    trace.points = begin + 1
    return trace


def log_gap_then_lead(rng: random.Random, setting: Setting) -> Trace:
    """Nothing is logged for three hours, half way to the fault; the steps go on from where they were."""
    trace = faults.actor_leads(rng, setting)
    since = _half_way(trace)[1]
    _rewall(trace.series, lambda wall: wall if wall <= since else wall + 10_800)
    return _moved(trace, 0, 10_800.0)


def rewind_then_lead(rng: random.Random, setting: Setting) -> Trace:
    """Half way to the fault the run goes back by a twentieth, and its session says so."""
    trace = silent_rewind_then_lead(rng, setting)
    for index in range(1, len(trace.series[ACTOR_Q])):
        step, wall, _ = trace.series[ACTOR_Q][index]
        if step <= trace.series[ACTOR_Q][index - 1][0]:
            trace.rewinds.append(Rewind(wall - 1e-6, step - setting.cadence))
            break
    return trace


def silent_rewind_then_lead(rng: random.Random, setting: Setting) -> Trace:
    """Half way to the fault the steps go back by a twentieth, and nothing says so."""
    trace = faults.actor_leads(rng, setting)
    wall = _half_way(trace)[1]
    back = setting.n // 20 * setting.cadence
    for tag, points in trace.series.items():
        first = bisect_left([at for _, at, _ in points], wall)
        if first < len(points):
            begin = points[0][0]
            by = back if not tag.startswith("train/episode") else (first - begin) // 20
            points[first:] = [(max(step - by, 0), at, value) for step, at, value in points[first:]]
    return _moved(trace, -back, 0.0)


def duplicates_then_lead(rng: random.Random, setting: Setting) -> Trace:
    """Every point is logged twice at its step, a moment apart, as two loggers on one tag do."""
    trace = faults.actor_leads(rng, setting)
    for tag, points in trace.series.items():
        trace.series[tag] = [
            twin for step, wall, v in points for twin in ((step, wall, v), (step, wall + 2e-3, v))
        ]
    return _relabelled(trace, lambda at: Place(at.step, at.wall, 2 * at.point))


def episode_axis_lead(rng: random.Random, setting: Setting) -> Trace:
    """Everything lies on the number of the update, one apart, whatever the cadence."""
    trace = faults.actor_leads(rng, setting)
    for tag, points in trace.series.items():
        if not tag.startswith("train/episode"):
            trace.series[tag] = [(index + 1, wall, v) for index, (_, wall, v) in enumerate(points)]
    return _relabelled(trace, lambda at: Place(at.point + 1, at.wall, at.point))


def renamed_then_lead(rng: random.Random, setting: Setting) -> Trace:
    """Half way to the fault actor Q is logged under another name; its loss still goes by the old one."""
    trace = faults.actor_leads(rng, setting)
    wall = _half_way(trace)[1]
    points = trace.series[ACTOR_Q]
    trace.series[ACTOR_Q] = [point for point in points if point[1] <= wall]
    trace.series["debug/actor_q_average"] = [point for point in points if point[1] > wall]
    return trace


def _half_way(trace: Trace) -> tuple[int, float]:
    assert trace.onset is not None, "a fault has one"
    return trace.series[ACTOR_Q][trace.onset.point // 2][:2]


def _rewall(series: Series, move: Callable[[float], float]) -> None:
    for points in series.values():
        points[:] = [(step, move(wall), value) for step, wall, value in points]


def _moved(trace: Trace, steps: int, seconds: float) -> Trace:
    return _relabelled(trace, lambda at: Place(at.step + steps, at.wall + seconds, at.point))


def _relabelled(trace: Trace, move: Callable[[Place], Place]) -> Trace:
    assert trace.onset is not None, "a fault has one"
    trace.onset = move(trace.onset)
    trace.harm = move(trace.harm) if trace.harm is not None else None
    return trace


def _marked(trace: Trace, begin: int) -> Trace:
    points = trace.series[ACTOR_Q]
    axis = Clock([step for step, _, _ in points], [wall for _, wall, _ in points])
    trace.onset = trace.harm = axis.place(begin)
    return trace
