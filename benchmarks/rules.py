"""What the rules cost: one comparison, one rule a tag, and the packs over a run of 50 tags.

Everything is measured in one process, a few times over in turn, and the least is taken; the ratios are
against an empty loop over the same points and against Python's own `eval` of the same expression. Parsing
of rules and of event files is not counted.

    python -m benchmarks.rules
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib import resources

from rules.evaluate import Evaluator, Program, compile_rules
from rules.merge import build
from rules.series import Sample
from rules.source import Document, parse
from sentinel.curves import Curves

REPEATS = 5
STEPS = 600
PACKS = ("_aliases", "generic", "td3")
LOGGED = """
debug/actor_q_mean debug/actor_q_max debug/actor_q_min debug/actor_q_std debug/q1_mean debug/q1_max
debug/q2_mean debug/q2_max debug/td_error_q1 debug/td_error_q2 train/actor_loss train/critic_loss
gradients/actor_mlp_norm
gradients/critic_mlp_norm gradients/actor_cnn_norm gradients/critic_cnn_norm train/episode_length
train/episode_reward eval/mean_reward time/steps_per_second
"""
TRAINER_TAGS = LOGGED.split()


def healthy_run(steps: int, every: int = 100) -> list[Sample]:
    """A run of 50 tags that are logged together every `every` steps: noise around slow growth; nothing
    breaches.
    """
    noise = random.Random(1)
    tags = [*TRAINER_TAGS, *(f"info/series_{n:02d}" for n in range(50 - len(TRAINER_TAGS)))]
    samples: list[Sample] = []
    for n in range(1, steps + 1):
        growth = 5 + 4 * math.tanh(n / steps)
        samples += [(tag, every * n, 1.7e9 + 3.0 * n, growth + noise.gauss(0, 0.5)) for tag in tags]
    return samples


def document(text: str) -> Document:
    """A rule file from its text."""
    return parse(text, "benchmark.toml")


def packs() -> Program:
    """The packs generic and td3, as shipped."""
    files = [
        (name, parse((resources.files("rules.packs") / f"{name}.toml").read_text("utf-8"), f"{name}.toml"))
        for name in PACKS
    ]
    return compile_rules(build(files))


def thresholds(tags: Iterable[str]) -> Program:
    """One threshold rule for each tag."""
    rules = [f'[[rule]]\nname = "r{n}"\nexpr = \'m["{tag}"] > 1e6\'\n' for n, tag in enumerate(tags)]
    return compile_rules(build([("", document("".join(rules)))]))


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of one call: other work on the machine is none of ours."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def feeding(program: Program, samples: Sequence[Sample]) -> Callable[[], float]:
    """Seconds a point for a whole run, the run's first tick (names resolve, windows are made) left out."""

    def measure() -> float:
        evaluator = program.evaluator()
        evaluator.feed(samples[:100])
        rest = samples[100:]
        return seconds(lambda: evaluator.feed(rest)) / len(rest)

    return measure


def looping(samples: Sequence[Sample]) -> Callable[[], float]:
    """Seconds a point for a loop that only unpacks."""

    def loop() -> None:
        for _tag, _step, _wall, _value in samples:
            pass

    return lambda: seconds(loop) / len(samples)


def calling(evaluate: Callable[[], object], times: int = 100_000) -> Callable[[], float]:
    """Seconds a call."""

    def calls() -> None:
        for _ in range(times):
            evaluate()

    return lambda: seconds(calls) / times


def asking(expr: str, samples: Sequence[Sample]) -> Callable[[], object]:
    """One condition over a fed run, ready to be asked."""
    text = f'[metrics]\nv = ["train/critic_loss"]\n[[rule]]\nname = "r"\nexpr = "{expr}"\n'
    evaluator: Evaluator = compile_rules(build([("", document(text))])).evaluator()
    evaluator.feed(samples)
    evaluator.flush()
    found = evaluator.condition("r")
    now = samples[-1][2]
    return partial(found, now)


def keeping(samples: Sequence[Sample]) -> Callable[[], float]:
    """Seconds a point for keeping the history that plots are drawn from, a tick of 50 points at a time."""
    program = packs()

    def measure() -> float:
        curves = Curves(program)
        began = time.perf_counter()
        for at in range(0, len(samples), 50):
            curves.take(samples[at : at + 50])
        return (time.perf_counter() - began) / len(samples)

    return measure


def main() -> None:
    """Measure, and print a table."""
    dense, sparse = healthy_run(STEPS, every=1), healthy_run(STEPS)
    tags = list(dict.fromkeys(sample[0] for sample in sparse))
    alone = [sample for sample in healthy_run(STEPS * 10) if sample[0] == "train/critic_loss"]
    v = {"v": 5.0}
    comparison = compile("v > 10", "rule", "eval")
    windows = "mean(v, points=50) > 10 or std(v, points=50) > 10 or median(v, points=50) > 10"
    measures: dict[str, Callable[[], float]] = {
        "loop over points, no rules": looping(sparse),
        "feed, no rules": feeding(thresholds([]), sparse),
        "feed, 50 one-tag thresholds over 50 tags": feeding(thresholds(tags), sparse),
        "feed, 1 threshold over 1 tag (each point a tick)": feeding(thresholds(["train/critic_loss"]), alone),
        "feed, packs generic + td3, every 100 steps": feeding(packs(), sparse),
        "feed, packs generic + td3, every step": feeding(packs(), dense),
        "feed, keep a history for plots": keeping(sparse),
        "ask v > 10": calling(asking("v > 10", sparse)),
        "Python's eval of v > 10, compiled once": calling(partial(eval, comparison, v)),
        "ask three windows": calling(asking(windows, sparse)),
        "call of an empty closure": calling(lambda: None),
    }
    best = dict.fromkeys(measures, math.inf)
    for _ in range(REPEATS):
        for name, measure in measures.items():
            best[name] = min(best[name], measure())
    base = best["loop over points, no rules"]
    empty = best["call of an empty closure"]
    for name, value in best.items():
        per_point = name.startswith(("feed", "loop"))
        unit = "us a point" if per_point else "us a call "
        ratio = value / base if per_point else value / empty
        against = "the empty loop" if per_point else "an empty call"
        print(f"{name:<52}{value * 1e6:8.3f} {unit}  {ratio:6.1f} x {against}")
    rules = best["feed, 50 one-tag thresholds over 50 tags"] - best["feed, no rules"]
    print(f"{'so a one-tag rule costs':<52}{rules * 1e6:8.3f} us a point")


if __name__ == "__main__":
    main()
