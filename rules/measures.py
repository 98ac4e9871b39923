"""Which closure computes which function of the language: the table from names to makers."""

from __future__ import annotations

import math
from collections.abc import Callable

from rules import pointwise, windowed
from rules.parts import Parts, ask_series, over_series
from rules.store import Answer, Reading
from rules.tree import Call
from rules.windows import Ordered, Sums

MEASURES: dict[str, Callable[[Parts, Call], Reading]] = {
    "abs": pointwise.unary(abs),
    "log": pointwise.unary(math.log),
    "log10": pointwise.unary(math.log10),
    "exp": pointwise.unary(math.exp),
    "sqrt": pointwise.unary(math.sqrt),
    "sign": pointwise.unary(pointwise.sign),
    "min": pointwise.extreme(min),
    "max": pointwise.extreme(max),
    "clip": pointwise.clip,
    "relgap": pointwise.relgap,
    "coalesce": pointwise.coalesce,
    "last": over_series(pointwise.last),
    "prev": over_series(pointwise.prev),
    "initial": over_series(pointwise.initial),
    "best": over_series(pointwise.best),
    "ewma": over_series(pointwise.ewma),
    "nonfinite": over_series(pointwise.nonfinite, missing=0.0),
    "count": windowed.windowed(lambda _parts, _call, on: lambda: float(len(on.values)), missing=0.0),
    "mean": windowed.windowed(windowed.sums(Sums.mean)),
    "sum": windowed.windowed(windowed.sums(Sums.sum)),
    "std": windowed.windowed(windowed.sums(Sums.std)),
    "frac": windowed.windowed(windowed.sums(Sums.mean)),
    "median": windowed.windowed(windowed.ordered(Ordered.median)),
    "mad": windowed.windowed(windowed.ordered(Ordered.mad)),
    "quantile": windowed.windowed(windowed.quantile),
    "highest": windowed.windowed(lambda parts, _call, on: windowed.greatest(parts, on, 1.0).value),
    "lowest": windowed.windowed(lambda parts, _call, on: windowed.greatest(parts, on, -1.0).value),
    "delta": windowed.windowed(windowed.delta),
    "ratio": windowed.windowed(windowed.ratio),
    "slope": windowed.windowed(windowed.slope),
    "doubling_steps": windowed.windowed(windowed.doubling(1)),
    "halving_steps": windowed.windowed(windowed.doubling(-1)),
    "steps_to": windowed.windowed(windowed.steps_to),
    "time_to": over_series(windowed.time_to),
    "zscore": over_series(windowed.zscore),
    "rzscore": over_series(windowed.rzscore),
    "oscillation": windowed.windowed(windowed.oscillation),
    "throughput": windowed.windowed(windowed.throughput),
    "age": over_series(windowed.age),
    "step": windowed.step,
    "elapsed": windowed.elapsed,
}
"""Makers of the functions that return a number."""

CONDITIONS: dict[str, Callable[[Parts, Call], Answer]] = {
    "known": pointwise.known,
    "is_finite": ask_series(pointwise.is_finite),
    "is_nan": ask_series(pointwise.is_nan),
    "rising": ask_series(windowed.trend(1)),
    "falling": ask_series(windowed.trend(-1)),
    "unchanged": ask_series(windowed.unchanged),
    "stale": ask_series(windowed.stale),
    "absent": windowed.absent,
}
"""Makers of the functions that return a condition."""
