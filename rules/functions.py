"""The function table of the rule language: every signature, its window needs and its meaning, once.

The parser checks calls against this table, error messages print signatures from it, and the reference
documentation is generated from it. What a function computes lives in `pointwise.py` and `windowed.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["num", "bool"]
ArgumentKind: TypeAlias = Literal["num", "series", "cond", "const"]
WindowUnit: TypeAlias = Literal["steps", "points", "time"]

ANY_WINDOW: tuple[WindowUnit, ...] = ("steps", "points", "time")
WINDOW_UNITS: dict[str, WindowUnit] = {unit: unit for unit in ANY_WINDOW}


@dataclass(frozen=True, slots=True)
class Option:
    """A keyword constant.

    Attributes:
        name: the keyword.
        default: what it is when left out; None means that the function decides by its window.
        choices: the allowed words, when the constant is a string.
        low, high: the allowed range, both ends included, when it is a number.
    """

    name: str
    default: float | str | None
    choices: tuple[str, ...] = ()
    low: float = float("-inf")
    high: float = float("inf")


@dataclass(frozen=True, slots=True)
class Function:
    """One row of the table.

    Attributes:
        name: as written in a rule.
        arguments: (display name, kind) of the positional ones; "series" wants history,
            "cond" the history of a condition.
        returns: what the call is: a number or a condition.
        meaning: the exact definition, W being the window.
        unknown: when the answer is UNKNOWN.
        windows: the units of which a call must name exactly one; empty for no window.
        options: further keyword constants.
        variadic: whether the last positional argument may be repeated.
        cover: share of the window that must have been lived through, for windows by (points, steps or time).
        min_points: fewest finite points in the window to answer by.
        timed: whether the answer changes between points, so that its rules are also evaluated on a timer.
    """

    name: str
    arguments: tuple[tuple[str, ArgumentKind], ...]
    returns: Kind
    meaning: str
    unknown: str
    windows: tuple[WindowUnit, ...] = ()
    options: tuple[Option, ...] = ()
    variadic: bool = False
    cover: tuple[float, float] = (0.0, 0.0)
    min_points: int = 1
    timed: bool = False

    @property
    def keywords(self) -> tuple[str, ...]:
        """Every keyword that a call may use."""
        coverage = ("min_points", "cover") if self.has_coverage else ()
        return (*self.windows, *(option.name for option in self.options), *coverage)

    @property
    def has_coverage(self) -> bool:
        """Whether min_points= and cover= apply: not where the keyword is a span or a duration."""
        return bool(self.windows) and self.name not in NOT_COVERED

    def option(self, name: str) -> Option | None:
        """The option of that name, with the two that every window function takes."""
        if self.has_coverage and name in COVERAGE:
            return COVERAGE[name]
        return next((option for option in self.options if option.name == name), None)

    @property
    def signature(self) -> str:
        """The call in one line, as error messages and the reference show it."""
        parts = [name for name, _ in self.arguments]
        if self.variadic:
            parts[-1] += ", ..."
        if self.windows:
            parts.append("|".join(f"{unit}=" for unit in self.windows))
        for option in self.options:
            default = f'"{option.default}"' if isinstance(option.default, str) else f"{option.default:g}"
            parts.append(f"{option.name}={default}")
        return f"{self.name}({', '.join(parts)})"


COVERAGE = {
    "min_points": Option("min_points", None, low=1, high=100_000),
    "cover": Option("cover", None, low=0, high=1),
}
"""Options that every function of a window takes; their defaults stand in the function's own row."""

NOT_COVERED = frozenset({"ewma", "initial", "stale", "absent"})
"""Functions whose window keyword is a span or a duration, not a stretch that must have been lived through."""

_X: tuple[tuple[str, ArgumentKind], ...] = (("series", "series"),)
_MIN_R2 = Option("min_r2", 0.9, low=0, high=1)


def _pointwise(name: str, meaning: str, *arguments: str, variadic: bool = False) -> Function:
    kinds: tuple[tuple[str, ArgumentKind], ...] = tuple((argument, "num") for argument in arguments or ("a",))
    return Function(
        name, kinds, "num", meaning, "an argument is, or lies outside the domain", variadic=variadic
    )


def _aggregate(name: str, meaning: str) -> Function:
    unknown = "points=: fewer than n points; steps= and time=: fewer than min_points (1)"
    return Function(name, _X, "num", meaning, unknown, windows=ANY_WINDOW, cover=(1.0, 0.0))


_ROWS = (
    _pointwise("abs", "absolute value"),
    _pointwise("log", "natural logarithm"),
    _pointwise("log10", "decimal logarithm"),
    _pointwise("exp", "exponential; infinite when it overflows"),
    _pointwise("sqrt", "square root"),
    _pointwise("sign", "-1, 0 or 1"),
    _pointwise("min", "the least argument", "a", variadic=True),
    _pointwise("max", "the greatest argument", "a", variadic=True),
    _pointwise("clip", "a, held between lo and hi", "a", "lo", "hi"),
    Function(
        "relgap",
        (("a", "num"), ("b", "num")),
        "num",
        "(a - b) / max(|b|, floor), signed",
        "an argument is",
        options=(Option("floor", 1.0, low=0),),
    ),
    Function("coalesce", (("a", "num"),), "num", "the first known argument", "all are", variadic=True),
    Function("known", (("a", "num"),), "bool", "whether a is known", "never"),
    Function("is_finite", _X, "bool", "whether the last raw point is neither NaN nor infinite", "no point"),
    Function("is_nan", _X, "bool", "whether the last raw point is NaN", "no point"),
    Function("last", _X, "num", "the last point, however old", "no point"),
    Function(
        "prev",
        _X,
        "num",
        "the n-th point before the last",
        "not enough points",
        options=(Option("n", 1.0, low=1, high=100_000),),
    ),
    Function(
        "initial",
        _X,
        "num",
        "mean of the first k finite points of the run, then frozen",
        "fewer than k points",
        windows=("points",),
    ),
    Function(
        "best",
        _X,
        "num",
        "running maximum (minimum) since the start",
        "no point",
        options=(Option("mode", "max", choices=("max", "min")),),
    ),
    Function("count", _X, "num", "finite points in W", "never", windows=ANY_WINDOW, min_points=0),
    Function("nonfinite", _X, "num", "NaN and infinite points since the start", "never"),
    _aggregate("mean", "mean of the finite points in W"),
    _aggregate("sum", "sum of the finite points in W"),
    _aggregate("std", "sample standard deviation (n - 1) of the finite points in W; needs two"),
    _aggregate("lowest", "least finite point in W"),
    _aggregate("highest", "greatest finite point in W"),
    _aggregate("median", "median of the finite points in W"),
    _aggregate("mad", "median absolute deviation from the median, unscaled"),
    Function(
        "quantile",
        (("series", "series"), ("q", "const")),
        "num",
        "q-quantile, linear between order statistics",
        "as mean",
        windows=ANY_WINDOW,
        cover=(1.0, 0.0),
    ),
    Function(
        "frac",
        (("condition", "cond"),),
        "num",
        "share of True among the known values in W",
        "as mean",
        windows=ANY_WINDOW,
        cover=(1.0, 0.0),
    ),
    Function(
        "ewma",
        _X,
        "num",
        "exponential mean, alpha = 2 / (span + 1), started at the first value",
        "no point",
        windows=("points",),
    ),
    Function(
        "delta", _X, "num", "last - first of W", "W not covered (0.8)", windows=ANY_WINDOW, cover=(0.8, 0.8)
    ),
    Function(
        "ratio",
        _X,
        "num",
        "last / first of W",
        "W not covered (0.8); the first is 0",
        windows=ANY_WINDOW,
        cover=(0.8, 0.8),
    ),
    Function(
        "slope",
        _X,
        "num",
        "Theil-Sen slope per step: median of pairwise slopes of at most 64 points",
        "fewer than 5 points, or W not covered (0.8)",
        windows=ANY_WINDOW,
        cover=(0.8, 0.8),
        min_points=5,
    ),
    *(
        Function(
            name,
            _X,
            "bool",
            f"t of the line through 6 block means {sign} 2.132 (one-sided 5 %), and the last block "
            "differs from the first by >= by (relative)",
            "fewer than 12 points, or W not covered (0.8)",
            windows=ANY_WINDOW,
            options=(Option("by", 0.0, low=0),),
            cover=(0.8, 0.8),
            min_points=12,
        )
        for name, sign in (("rising", ">"), ("falling", "< -"))
    ),
    *(
        Function(
            name,
            _X,
            "num",
            f"ln 2 / {sign}slope of the least-squares line through (step, ln x) of the positive tail of W; "
            "infinite if the slope has the wrong sign or R2 < min_r2",
            "fewer than 3 points",
            windows=ANY_WINDOW,
            options=(_MIN_R2,),
            min_points=3,
        )
        for name, sign in (("doubling_steps", ""), ("halving_steps", "-"))
    ),
    Function(
        "steps_to",
        (("series", "series"), ("target", "const")),
        "num",
        "steps until the fitted line meets the target; 0 if past it; infinite if receding or R2 < 0.5",
        "fewer than 3 points",
        windows=ANY_WINDOW,
        options=(Option("model", "linear", choices=("linear", "exp")),),
        min_points=3,
    ),
    Function(
        "time_to",
        (("series", "series"), ("target", "const")),
        "num",
        "seconds until the fitted line meets the target; 0 if past it; infinite if receding or R2 < 0.5",
        "fewer than 3 points",
        windows=("time",),
        min_points=3,
        timed=True,
    ),
    Function(
        "zscore",
        _X,
        "num",
        "(x - mean) / std of the n points before x",
        "fewer than 20 earlier points",
        windows=("points",),
        min_points=20,
    ),
    Function(
        "rzscore",
        _X,
        "num",
        "(x - median) / (1.4826 MAD + rel_floor |median|) of the n points before x",
        "fewer than 20 earlier points",
        windows=("points",),
        options=(Option("rel_floor", 0.01, low=0),),
        min_points=20,
    ),
    Function(
        "oscillation",
        _X,
        "num",
        "-min over lags 3 to n/2 of the autocorrelation of the detrended window, at least 0; every 10 points",
        "fewer than 60 points",
        windows=("points",),
        min_points=60,
    ),
    Function(
        "unchanged",
        _X,
        "bool",
        "max - min <= rtol |last| in W",
        "W not covered (points: 1, else 0.8)",
        windows=ANY_WINDOW,
        options=(Option("rtol", 0.0, low=0),),
        cover=(1.0, 0.8),
    ),
    Function(
        "throughput",
        _X,
        "num",
        "median of dstep / dwall between successive points of W, per second",
        "fewer than 3 points",
        windows=("points",),
        min_points=3,
    ),
    Function("age", _X, "num", "seconds since the last point", "no point", timed=True),
    Function(
        "stale",
        _X,
        "bool",
        "age > max(time, 10 x the series' median gap between distinct steps)",
        "no point yet",
        windows=("time",),
        timed=True,
    ),
    Function(
        "absent",
        _X,
        "bool",
        "no point at all, that long after the run's first point",
        "the run has no point yet",
        windows=("time",),
        timed=True,
    ),
    Function("step", (), "num", "the last step of the rule's first metric", "no point"),
    Function("elapsed", (), "num", "seconds since the run's first point", "no point", timed=True),
)

FUNCTIONS: dict[str, Function] = {row.name: row for row in _ROWS}
"""The table, by name."""
