"""Sick runs: what is wrong with the values themselves. Where it begins is known exactly.

`severity` is the speed or the size of the fault: 1 mild, 2 middling, 3 grave. `at` is the share of the run
before it. The onset is the first point that a healthy run would not have had; harm is where the task is
lost, a level of the fault that is named with each.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Callable

from rules.generators import episodes, learning, losses
from rules.generators.trace import Clock, Series, Setting, Trace, clock

ACTOR_LOSS, CRITIC_LOSS, ACTOR_GRADIENT = "train/actor_loss", "train/critic_loss", "gradients/actor_mlp_norm"

INCIDENT_STEPS = (1100, 1200, 1300, 1400, 1500, 1600, 1700)
INCIDENT_A = (2.344, 3.421, 11.846, 58.395, 191.322, 325.890, 349.055)
"""Actor Q as the incident's report has it: its ends are right, its middle is not."""
INCIDENT_B = (2.344, 11.732, 28.721, 54.498, 104.489, 199.494, 349.055)
"""Actor Q as the incident's event file has it."""
INCIDENT_CRITIC = (16.238, 16.443, 13.921, 7.905, 14.526, 15.588, 10.909)
INCIDENT_LOSS = (256.0, 149.0, 127.0, 207.0, 86.0, 93.0, 43.0)
INCIDENT_GRADIENT = (1.1e-4, 6.3e-5, 3.6e-5, 2.1e-5, 1.2e-5, 6.7e-6, 3.8e-6)


def incident(anchors: tuple[float, ...], rng: random.Random, setting: Setting) -> Trace:
    """Draw the incident at another cadence: log-linear between its seven points, which span 600 steps.

    Severity stretches it to twice its time, leaves it, or doubles its pace. Seed 0 has no noise, so that at
    cadence 100 and severity 2 it is the incident itself; other seeds have 10 % on each value. `n` shortens
    it; `at` has no say, for its fault begins with its first point. Harm: actor Q passes 50.
    """
    stretch = {1: 2.0, 2: 1.0, 3: 0.5}[setting.severity]
    first, last = INCIDENT_STEPS[0], INCIDENT_STEPS[-1]
    points = min(setting.n, int((last - first) * stretch) // setting.cadence + 1)
    axis = clock(rng, points, setting.cadence, start=first - setting.cadence)
    noise = 0.0 if setting.seed == 0 else 0.1
    places = [first + (step - first) / stretch for step in axis.steps]

    def drawn(values: tuple[float, ...]) -> list[float]:
        return [_between(values, place) * math.exp(noise * rng.gauss(0, 1)) for place in places]

    actor, critic = drawn(anchors), drawn(INCIDENT_CRITIC)
    series: Series = {
        "debug/actor_q_mean": axis.zip(actor),
        "debug/actor_q_max": axis.zip([value * 406 / 349.055 for value in actor]),
        "debug/q1_mean": axis.zip(critic),
        "debug/q2_mean": axis.zip([value * 1.003 for value in critic]),
        CRITIC_LOSS: axis.zip(drawn(INCIDENT_LOSS)),
        ACTOR_LOSS: axis.zip([-value for value in actor]),
        ACTOR_GRADIENT: axis.zip(drawn(INCIDENT_GRADIENT)),
    }
    harm = next((index for index, place in enumerate(places) if _between(anchors, place) > 50), None)
    reached = None if harm is None else axis.place(harm)
    return Trace(series, axis.place(0), reached, points=points)


def actor_leads(rng: random.Random, setting: Setting) -> Trace:
    """A healthy plateau, until the actor leaves it alone: doubling every 2000, 500 or 100 steps.

    Harm: the actor's Q is ten times what it was.
    """
    return _explosion(rng, setting, {1: 2000, 2: 500, 3: 100}[setting.severity], together=False)


def critic_follows(rng: random.Random, setting: Setting) -> Trace:
    """Actor and critics explode together, doubling every 10,000, 2000 or 500 steps: the lead stays small.

    Harm: their Q is ten times what it was.
    """
    return _explosion(rng, setting, {1: 10_000, 2: 2000, 3: 500}[setting.severity], together=True)


def _explosion(rng: random.Random, setting: Setting, doubling: float, *, together: bool) -> Trace:
    axis = clock(rng, setting.n, setting.cadence)
    level, lead = learning.warmup(rng, axis.steps)
    begin = setting.begin
    start = axis.steps[begin - 1] if begin else 0
    times = [
        1.0 if step <= start else math.exp(min(60.0, (step - start) * math.log(2) / doubling))
        for step in axis.steps
    ]
    if together:
        exploding = [value * by for value, by in zip(level, times, strict=True)]
        series = learning.joint(rng, axis, exploding, lead, healthy=level)
    else:
        lead = [(1 + ahead) * by - 1 for ahead, by in zip(lead, times, strict=True)]
        series = learning.joint(rng, axis, level, lead)
    harm = next((index for index, by in enumerate(times) if by >= 10), None)
    reached = None if harm is None else axis.place(harm)
    return Trace(series, axis.place(begin), reached, points=setting.n)


def gradient_vanishes(rng: random.Random, setting: Setting) -> Trace:
    """The actor's gradient dies to 10, 2 or 0.1 % over fifty points, as that of a saturated actor does."""
    to = {1: 0.1, 2: 0.02, 3: 0.001}[setting.severity]
    return _scaled(rng, setting, ACTOR_GRADIENT, lambda past: to ** min(1.0, past / 50), 50)


def gradient_explodes(rng: random.Random, setting: Setting) -> Trace:
    """The critics' gradient grows 5, 30 or 1000 times over twenty points, and stays there."""
    to = {1: 5.0, 2: 30.0, 3: 1000.0}[setting.severity]
    return _scaled(rng, setting, "gradients/critic_mlp_norm", lambda past: to ** min(1.0, past / 20), 20)


def critic_loss_diverges(rng: random.Random, setting: Setting) -> Trace:
    """The critics' loss alone doubles every 20, 5 or 1 points."""
    points = {1: 20.0, 2: 5.0, 3: 1.0}[setting.severity]
    return _scaled(rng, setting, CRITIC_LOSS, lambda past: 2 ** min(60.0, past / points), int(points * 4))


def _scaled(
    rng: random.Random, setting: Setting, tag: str, times: Callable[[int], float], harm_after: int
) -> Trace:
    trace = learning.run(learning.warmup, rng, setting)
    begin = setting.begin
    points = trace.series[tag]
    trace.series[tag] = [
        (step, wall, value if index < begin else value * times(index - begin + 1))
        for index, (step, wall, value) in enumerate(points)
    ]
    return _with_onset(trace, tag, begin, harm_after)


def episodes_collapse(rng: random.Random, setting: Setting) -> Trace:
    """Lengths and rewards fall to 60, 25 or 8 % within ten episodes, after growth."""
    return _collapse(episodes.episodes_steady, rng, setting, both=True)


def goal_collapse(rng: random.Random, setting: Setting) -> Trace:
    """As episodes_collapse, where a goal had made the episodes shorter before: the rewards tell more."""
    return _collapse(episodes.episodes_goal, rng, setting, both=True)


def reward_collapse(rng: random.Random, setting: Setting) -> Trace:
    """Rewards fall to 60, 25 or 8 % within ten episodes; episodes last as long as before."""
    return _collapse(episodes.episodes_steady, rng, setting, both=False)


def _collapse(
    shape: Callable[[random.Random], episodes.Draw], rng: random.Random, setting: Setting, *, both: bool
) -> Trace:
    to = {1: 0.6, 2: 0.25, 3: 0.08}[setting.severity]
    trace = episodes.run(shape, rng, setting)
    begin = setting.begin
    for tag in (episodes.LENGTH, episodes.REWARD) if both else (episodes.REWARD,):
        trace.series[tag] = [
            (step, wall, value if index < begin else _shrunk(value, to ** min(1.0, (index - begin + 1) / 10)))
            for index, (step, wall, value) in enumerate(trace.series[tag])
        ]
    return _with_onset(trace, episodes.REWARD, begin, 10)


def _shrunk(value: float, to: float) -> float:
    return value * to if value > 0 else value


def loss_spike(rng: random.Random, setting: Setting) -> Trace:
    """One point of the loss stands 5, 10 or 50 % above the others, and no more."""
    return _lifted(rng, setting, {1: 0.05, 2: 0.1, 3: 0.5}[setting.severity], lambda past: past == 0)


def loss_spike_recovers(rng: random.Random, setting: Setting) -> Trace:
    """The loss jumps by 15, 30 or 100 % and needs thirty points to come down again."""
    size = {1: 0.15, 2: 0.3, 3: 1.0}[setting.severity]
    return _lifted(rng, setting, size, lambda past: math.exp(-past / 10) if past < 60 else 0.0)


def loss_steps_up(rng: random.Random, setting: Setting) -> Trace:
    """The loss jumps by 10, 20 or 60 %, and stays there."""
    return _lifted(rng, setting, {1: 0.1, 2: 0.2, 3: 0.6}[setting.severity], lambda _: 1.0)


def loss_ramps_up(rng: random.Random, setting: Setting) -> Trace:
    """The loss climbs by 10, 30 or 100 % over 300 points, and stays there."""
    size = {1: 0.1, 2: 0.3, 3: 1.0}[setting.severity]
    return _lifted(rng, setting, size, lambda past: min(1.0, past / 300), harm_after=300)


def loss_diverges(rng: random.Random, setting: Setting) -> Trace:
    """The loss grows exponentially: its excess doubles every 40, 15 or 4 points, from 1 %."""
    points = {1: 40.0, 2: 15.0, 3: 4.0}[setting.severity]
    return _lifted(rng, setting, 0.01, lambda past: 2 ** min(60.0, past / points), harm_after=int(points * 6))


def loss_oscillates(rng: random.Random, setting: Setting) -> Trace:
    """The loss swings by 5, 15 or 40 % with a period of 30 points, and falls no more."""
    size = {1: 0.05, 2: 0.15, 3: 0.4}[setting.severity]
    return _lifted(
        rng, setting, size, lambda past: math.sin(2 * math.pi * past / 30), harm_after=200, hold=True
    )


def plateau(rng: random.Random, setting: Setting) -> Trace:
    """The loss stops falling: at its present level it stays."""
    return _lifted(rng, setting, 0.0, lambda _: 0.0, harm_after=500, hold=True)


def _lifted(
    rng: random.Random,
    setting: Setting,
    size: float,
    shape: Callable[[int], float],
    harm_after: int = 0,
    *,
    hold: bool = False,
) -> Trace:
    """Draw a loss with Gaussian noise and multiply it by 1 + size * shape(points since the onset)."""
    axis = clock(rng, setting.n, setting.cadence)
    begin = setting.begin
    level = losses.loss_level(rng, setting.n)
    if hold:
        level = [*level[:begin], *[level[begin]] * (setting.n - begin)]
    spread = rng.uniform(0.01, 0.02)
    values = [
        at * (1 + spread * rng.gauss(0, 1)) * (1 if index < begin else 1 + size * shape(index - begin))
        for index, at in enumerate(level)
    ]
    trace = Trace({losses.LOSS: axis.zip(values)}, points=setting.n)
    return _with_onset(trace, losses.LOSS, begin, harm_after)


def entropy_collapses(rng: random.Random, setting: Setting) -> Trace:
    """The policy's entropy decays to 5, 0.5 or 0.01 % over a hundred points."""
    to = {1: 0.05, 2: 0.005, 3: 0.0001}[setting.severity]
    return _policy(rng, setting, "train/entropy_loss", lambda past: to ** min(1.0, past / 100), 100)


def kl_ramps(rng: random.Random, setting: Setting) -> Trace:
    """KL to the old policy grows 5, 20 or 200 times over fifty points."""
    to = {1: 5.0, 2: 20.0, 3: 200.0}[setting.severity]
    return _policy(rng, setting, "train/approx_kl", lambda past: to ** min(1.0, past / 50), 50)


def _policy(
    rng: random.Random, setting: Setting, tag: str, times: Callable[[int], float], harm_after: int
) -> Trace:
    axis = clock(rng, setting.n, setting.cadence)
    trace = Trace(losses.policy_series(rng, axis), points=setting.n)
    begin = setting.begin
    trace.series[tag] = [
        (step, wall, value if index < begin else value * times(index - begin + 1))
        for index, (step, wall, value) in enumerate(trace.series[tag])
    ]
    return _with_onset(trace, tag, begin, harm_after)


def _with_onset(trace: Trace, tag: str, begin: int, harm_after: int) -> Trace:
    points = trace.series[tag]
    axis = Clock([step for step, _, _ in points], [wall for _, wall, _ in points])
    trace.onset = axis.place(begin)
    trace.harm = axis.place(begin + harm_after) if begin + harm_after < len(points) else None
    return trace


def _between(values: tuple[float, ...], step: float) -> float:
    """Interpolate log-linearly between the incident's points."""
    index = min(max(bisect_right(INCIDENT_STEPS, step) - 1, 0), len(values) - 2)
    share = (step - INCIDENT_STEPS[index]) / (INCIDENT_STEPS[index + 1] - INCIDENT_STEPS[index])
    return float(values[index] * (values[index + 1] / values[index]) ** share)
