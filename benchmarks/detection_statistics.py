"""Intervals for what was counted: shares of runs, rates of alarms, medians over clusters. All at 95 %.

A count of zero is no proof of never: each rate here comes with the largest one that it does not exclude.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence

Interval = tuple[float, float]

_Z = 1.959964
_TAIL = 0.025


def wilson(hits: int, of: int) -> Interval:
    """Wilson's interval of a share; (0, 1) of none."""
    if of == 0:
        return 0.0, 1.0
    share, z2 = hits / of, _Z * _Z
    centre = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of)) / (1 + z2 / of)
    return max(0.0, centre - half), min(1.0, centre + half)


def poisson(count: int) -> Interval:
    """Garwood's exact interval of a Poisson mean from one count; of none, the one-sided upper bound."""
    if count == 0:
        return 0.0, -math.log(2 * _TAIL)
    lower = _root(lambda mean: 1 - _at_most(count - 1, mean) - _TAIL, 0.0, float(count))
    upper = _root(
        lambda mean: _TAIL - _at_most(count, mean), float(count), count + 10 * math.sqrt(count) + 20
    )
    return lower, upper


def quantile(values: Sequence[float], share: float) -> float:
    """The quantile of a sample, linear between order statistics; NaN of none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    if ordered[low] == ordered[high]:
        return ordered[low]
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def clustered(clusters: Mapping[str, Sequence[float]], draws: int = 2000) -> Interval:
    """The interval of a median by bootstrap over clusters, then runs within each: never over points.

    With a single cluster only its runs are drawn, so the interval says nothing of other projects.
    """
    rng = random.Random(0)
    names = sorted(clusters)
    medians = []
    for _ in range(draws):
        drawn: list[float] = []
        for name in rng.choices(names, k=len(names)) if names else ():
            drawn += rng.choices(clusters[name], k=len(clusters[name]))
        medians.append(quantile(drawn, 0.5))
    return quantile(medians, _TAIL), quantile(medians, 1 - _TAIL)


def _at_most(count: int, mean: float) -> float:
    """The chance of at most `count` events where `mean` are expected."""
    if mean <= 0:
        return 1.0
    logs = [k * math.log(mean) - math.lgamma(k + 1) - mean for k in range(count + 1)]
    top = max(logs)
    return min(1.0, math.exp(top) * math.fsum(math.exp(log - top) for log in logs))


def _root(rises: Callable[[float], float], low: float, high: float) -> float:
    """Find where a rising function crosses zero."""
    for _ in range(100):
        middle = (low + high) / 2
        if rises(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
