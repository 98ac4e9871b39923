"""Generated runs through the rules: which alarms fired, when, and how long after the fault began.

A run is judged by `rules.watch.RunWatch`, as a live one and a replayed one are. It meets the packs that fit
its series and no others, as `sentinel init` would choose them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import cache

from rules import packs
from rules.alert import AlertState
from rules.evaluate import Program, compile_rules
from rules.generators import FAMILIES, Setting, Trace, draw
from rules.merge import RuleSet, merge
from rules.series import Sample
from rules.watch import Observation, RunWatch

REFRACTORY = 20
"""Alarms of one rule within so many points of each other count once."""

THRESHOLD = "td3/actor_q_high"
"""The user's static threshold, actor Q above 50: what the other rules have to be ahead of."""

PACKS = {
    "value": ("generic", "td3"),
    "log": ("generic", "td3"),
    "episodes": ("generic", "td3"),
    "reward": ("generic", "td3", "ppo"),
    "loss": ("generic", "supervised", "llm"),
    "policy": ("generic", "ppo"),
}
"""The packs that fit an area; one that is not shipped is left out."""

LEAD = ("*/actor_exploits_critic",)
DETECTS = {
    "incident_a": LEAD,
    "incident_b": LEAD,
    "actor_leads": LEAD,
    "critic_follows": ("*/critic_diverging", "*/q_grows_without_reward", "*/q_above_bound"),
    "critic_loss_diverges": ("*/critic_diverging",),
    "gradient_vanishes": ("*/actor_gradient_vanished",),
    "gradient_explodes": ("*/gradient_exploding*",),
    "episodes_collapse": ("*/episodes_collapse", "*/policy_collapsed", "*/reward_collapse"),
    "goal_collapse": ("*/episodes_collapse", "*/policy_collapsed", "*/reward_collapse"),
    "reward_collapse": ("*/episodes_collapse", "*/policy_collapsed", "*/reward_collapse"),
    "nan_once": ("generic/nonfinite*",),
    "inf_once": ("generic/nonfinite*",),
    "nan_forever": ("generic/nonfinite*",),
    "frozen": ("generic/flatlined*",),
    "slowdown": ("generic/throughput_drop",),
    "hang": ("generic/stalled*",),
    "log_gap_then_lead": LEAD,
    "rewind_then_lead": LEAD,
    "silent_rewind_then_lead": LEAD,
    "duplicates_then_lead": LEAD,
    "episode_axis_lead": LEAD,
    "renamed_then_lead": LEAD,
}
"""Which alarms count as finding a fault: those that name it. Where none is written, any alarm does."""


@dataclass(frozen=True, slots=True)
class Task:
    """One run to be drawn and judged."""

    family: str
    setting: Setting


@dataclass(frozen=True, slots=True)
class Alarm:
    """One time a rule began to fire.

    Attributes:
        key, rule, severity: which. wall: when, seconds since the epoch.
        step, point: the driving series' last step by then, and how many of its points came before.
    """

    key: str
    rule: str
    severity: str
    wall: float
    step: int
    point: int


@dataclass(frozen=True, slots=True)
class Found:
    """What became of one run.

    Attributes:
        task: which. points: of the driving series. samples: of all series.
        alarms: in order, each once within `REFRACTORY` points.
        signal: the first alarm at or after the onset that names the fault, if any.
        points_late, steps_late, seconds_late: from the onset to that.
        points_ahead, seconds_ahead: from that to the harm; negative where it came after, None where the
            run ends before.
        shown: whether the run lives to see the harm; where not, nothing need have been found.
        before_onset: how many of the alarms came before the fault.
        ahead_of_threshold: steps by which it came before the static threshold, where both fired.
    """

    task: Task
    points: int
    samples: int
    alarms: tuple[Alarm, ...]
    shown: bool = True
    before_onset: int = 0
    signal: Alarm | None = None
    points_late: int = 0
    steps_late: int = 0
    seconds_late: float = 0.0
    points_ahead: int | None = None
    seconds_ahead: float | None = None
    ahead_of_threshold: int | None = None


@cache
def program(area: str) -> tuple[Program, RuleSet]:
    """Compile the packs that fit an area, once."""
    shipped = [name for name in PACKS[area] if name in packs.names()]
    first, *rest = (packs.with_aliases(name) for name in shipped)
    rules, problems = merge([*first, *(document for each in rest for document in each[1:])])
    assert not problems, problems
    return compile_rules(rules), rules


def judge(task: Task) -> Found:
    """Draw a run and judge it."""
    family = FAMILIES[task.family]
    trace = draw(family, task.setting)
    samples = trace.samples()
    alarms = tuple(_once(_alarms(trace, samples, family.area)))
    found = Found(task, trace.points, len(samples), alarms)
    return found if trace.onset is None else _timed(found, trace)


def play(trace: Trace, samples: Sequence[Sample], area: str) -> list[Observation]:
    """Let a run happen, with its rewinds and its silence."""
    compiled, rules = program(area)
    watch = RunWatch(compiled, rules.ladders)
    observations: list[Observation] = []
    begin = 0
    for rewind in trace.rewinds:
        end = bisect_right(samples, rewind.wall, key=lambda sample: sample[2])
        observations += watch.observe(samples[begin:end])
        observations += watch.flush()
        until = watch.wall_at(rewind.to_step)
        kept = [sample for sample in samples[:end] if until is None or sample[2] <= until]
        observations += watch.rewind(rewind.to_step, rewind.wall, [(0, kept)])
        begin = end
    observations += watch.observe(samples[begin:])
    observations += watch.flush()
    if trace.until is not None:
        observations += watch.advance_to(trace.until)
    return observations


def _alarms(trace: Trace, samples: Sequence[Sample], area: str) -> Iterable[Alarm]:
    driver = max(trace.series.values(), key=len)
    walls = [wall for _, wall, _ in driver]
    for observation in play(trace, samples, area):
        moved = observation.transition
        if moved is not None and moved.after is AlertState.FIRING:
            point = max(bisect_right(walls, moved.at.wall_time) - 1, 0)
            rule = observation.rule
            yield Alarm(
                observation.key, rule.name, rule.severity, moved.at.wall_time, driver[point][0], point
            )


def _once(alarms: Iterable[Alarm]) -> Iterable[Alarm]:
    last: dict[str, int] = {}
    for alarm in alarms:
        if alarm.key not in last or alarm.point - last[alarm.key] > REFRACTORY:
            yield alarm
        last[alarm.key] = alarm.point


def names_fault(family: str, key: str) -> bool:
    """Whether an alarm of this key finds a fault of this family."""
    return any(fnmatch(key, pattern) for pattern in DETECTS.get(family, ("*",)))


def _timed(found: Found, trace: Trace) -> Found:
    assert trace.onset is not None, "asked of faults only"
    onset, harm = trace.onset, trace.harm
    late = [alarm for alarm in found.alarms if alarm.wall >= onset.wall]
    signal = next((alarm for alarm in late if names_fault(found.task.family, alarm.key)), None)
    early = len(found.alarms) - len(late)
    if signal is None:
        return replace(found, shown=harm is not None, before_onset=early)
    threshold = next((alarm for alarm in late if alarm.key == THRESHOLD), None)
    return Found(
        found.task,
        found.points,
        found.samples,
        found.alarms,
        harm is not None,
        early,
        signal,
        signal.point - onset.point,
        signal.step - onset.step,
        signal.wall - onset.wall,
        None if harm is None else harm.point - signal.point,
        None if harm is None else harm.wall - signal.wall,
        None if threshold is None else threshold.step - signal.step,
    )
