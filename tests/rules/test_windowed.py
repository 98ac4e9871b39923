"""Every function of the language, point by point in an evaluator, equals its formula over the points.

The formulas here start from the whole history each time, so nothing that has left a window can colour them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules import fits
from rules.evaluate import Evaluator, compile_rules
from rules.merge import build
from rules.source import parse

NAN, INF = math.nan, math.inf
MOST = 1.7e308

Point = tuple[int, float, float]
Formula = Callable[[Sequence[Point]], float]
"""Of the finite points in the window, in order of arrival."""


def values(held: Sequence[Point]) -> list[float]:
    return [value for _, _, value in held]


def steps(held: Sequence[Point]) -> list[int]:
    return [step for step, _, _ in held]


def deviation(held: Sequence[float]) -> float:
    middle = statistics.median(held)
    return statistics.median(abs(value - middle) for value in held)


def growth(direction: int) -> Formula:
    return lambda held: fits.doubling(steps(held), values(held), min_r2=0.0, direction=direction)


def trend(direction: int) -> Formula:
    return lambda held: float(fits.trend(values(held), direction=direction, by=0.0))


COVERED = (0.8, 0.8)

# name: (call, least points, share lived through for (points, spans), formula)
WINDOWED: dict[str, tuple[str, int, tuple[float, float], Formula]] = {
    "count": ("count(a, {w})", 0, (0, 0), lambda held: float(len(held))),
    "mean": ("mean(a, {w})", 1, (1, 0), lambda held: math.fsum(values(held)) / len(held)),
    "sum": ("sum(a, {w})", 1, (1, 0), lambda held: math.fsum(values(held))),
    "std": (
        "std(a, {w})",
        1,
        (1, 0),
        lambda held: statistics.stdev(values(held)) if len(held) > 1 else NAN,
    ),
    "lowest": ("lowest(a, {w})", 1, (1, 0), lambda held: min(values(held))),
    "highest": ("highest(a, {w})", 1, (1, 0), lambda held: max(values(held))),
    "median": ("median(a, {w})", 1, (1, 0), lambda held: statistics.median(values(held))),
    "mad": ("mad(a, {w})", 1, (1, 0), lambda held: deviation(values(held))),
    "quantile": ("quantile(a, 0.9, {w})", 1, (1, 0), lambda held: fits.quantile(sorted(values(held)), 0.9)),
    "few": ("mean(a, {w}, min_points=2)", 2, (0, 0), lambda held: math.fsum(values(held)) / len(held)),
    "half": ("highest(a, {w}, cover=0.5)", 1, (0.5, 0.5), lambda held: max(values(held))),
    "delta": ("delta(a, {w})", 1, COVERED, lambda held: held[-1][2] - held[0][2]),
    "ratio": (
        "ratio(a, {w})",
        1,
        COVERED,
        lambda held: held[-1][2] / held[0][2] if held[0][2] else NAN,
    ),
    "slope": ("slope(a, {w})", 5, COVERED, lambda held: fits.theil_sen(steps(held), values(held))),
    "rising": ("(1 if rising(a, {w}) else 0)", 12, COVERED, trend(1)),
    "falling": ("(1 if falling(a, {w}) else 0)", 12, COVERED, trend(-1)),
    "doubling_steps": ("doubling_steps(a, {w}, min_r2=0)", 3, (0, 0), growth(1)),
    "halving_steps": ("halving_steps(a, {w}, min_r2=0)", 3, (0, 0), growth(-1)),
    "steps_to": (
        "steps_to(a, 3, {w})",
        3,
        (0, 0),
        lambda held: fits.distance(steps(held), values(held), 3.0, log=False),
    ),
    "unchanged": (
        "(1 if unchanged(a, {w}) else 0)",
        1,
        (1, 0.8),
        lambda held: float(max(values(held)) == min(values(held))),
    ),
}
OF_POINTS: dict[str, tuple[str, int, tuple[float, float], Formula]] = {
    "throughput": (
        "throughput(a, {w})",
        3,
        (0, 0),
        lambda held: fits.rate(steps(held), [wall for _, wall, _ in held]),
    ),
}

windows = st.one_of(
    st.tuples(st.just("points"), st.sampled_from([1, 2, 5, 13])),
    st.tuples(st.just("steps"), st.sampled_from([1, 10, 40])),
    st.tuples(st.just("time"), st.sampled_from([1, 9, 60])),
)
numbers = st.one_of(
    st.floats(-100, 100).map(lambda value: round(value, 3)),
    st.sampled_from([0.0, 1.0, 2.0, 1e20, -1e20, 1e8, NAN, NAN, INF, -INF]),
)
histories = st.lists(
    st.tuples(st.sampled_from([0, 1, 1, 5, 10, -7]), st.sampled_from([0.0, 0.5, 3.0]), numbers), max_size=40
)
"""(steps on, seconds on, value): steps stand still, and go back; huge numbers come, and leave again."""


def points(moves: Sequence[tuple[int, float, float]]) -> list[Point]:
    step, wall, made = 0, 1000.0, []
    for dstep, dwall, value in moves:
        step, wall = step + dstep, wall + dwall
        made.append((step, wall, value))
    return made


def evaluator(calls: dict[str, str], expr: str = "a > 1 and False") -> Evaluator:
    """One rule that never breaches, with each call as a let."""
    lets = ", ".join(f'v_{name} = "{call}"' for name, call in calls.items())
    text = f'[metrics]\na = "a"\n[[rule]]\nname = "r"\nexpr = "{expr}"\nlet = {{ {lets} }}\n'
    return compile_rules(build([("", parse(text, "rules.toml"))])).evaluator()


def read(run: Evaluator, point: Point) -> dict[str, float]:
    """Every call's number once a point has come; NaN is unknown."""
    run.feed([("a", *point)])
    run.flush()
    found = run.names("r")
    return {name[2:]: NAN if v is None else v for name, v in found.items() if name.startswith("v_")}


def inside(unit: str, size: float, history: Sequence[Point]) -> tuple[list[Point], float]:
    """What a window holds, and the share of it that has been lived through."""
    finite = [point for point in history if math.isfinite(point[2])]
    if unit == "points":
        held = finite[-int(size) :]
        return held, len(held) / size
    axis = 1 if unit == "time" else 0
    places = [point[axis] for point in history]
    while finite and finite[0][axis] <= max(places) - size:
        finite.pop(0)
    return finite, min(1.0, (max(places) - min(places)) / size)


def agree(found: float, expected: float, scale: float) -> bool:
    if math.isnan(found) or math.isnan(expected):
        return math.isnan(found) and math.isnan(expected)
    return found == expected or abs(found - expected) <= 1e-7 * max(abs(expected), scale)


@settings(max_examples=200, deadline=None)
@given(windows, histories)
def test_every_function_of_a_window(window: tuple[str, int], moves: list[tuple[int, float, float]]) -> None:
    """After each point, in each unit, with its own rule of when there is enough to answer by."""
    unit, size = window
    written = f"time='{size}s'" if unit == "time" else f"{unit}={size}"
    table = {**WINDOWED, **(OF_POINTS if unit == "points" else {})}
    run = evaluator({name: row[0].format(w=written) for name, row in table.items()})
    history: list[Point] = []
    for point in points(moves):
        history.append(point)
        found = read(run, point)
        held, lived = inside(unit, size, history)
        scale = max((abs(value) for value in values(held)), default=0.0)
        for name, (_, least, (of_points, of_span), formula) in table.items():
            cover = of_points if unit == "points" else of_span
            if len(held) < least or lived < cover - 1e-9 or (not held and name != "count"):
                expected = NAN
            else:
                expected = formula(held)
            extent = scale * len(held) if name == "sum" else 1e-9 * scale if name == "std" else scale
            if name in ("doubling_steps", "halving_steps") and min(found[name], expected) > 1e6:
                continue  # the sign of a slope that is nearly none may be rounding
            assert agree(found[name], expected, extent), (name, found[name], expected, held)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([3, 20, 25]), histories)
def test_every_function_that_is_carried_along(size: int, moves: list[tuple[int, float, float]]) -> None:
    """best, ewma and initial pass NaN and infinity over; last and prev do not; scores see what was before."""
    run = evaluator(
        {
            "best": "best(a)",
            "least": "best(a, mode='min')",
            "initial": f"initial(a, points={size})",
            "ewma": f"ewma(a, points={size})",
            "nonfinite": "nonfinite(a)",
            "last": "last(a)",
            "prev": "prev(a, n=2)",
            "zscore": f"zscore(a, points={size}, min_points=3)",
            "rzscore": f"rzscore(a, points={size}, min_points=3)",
            "frac": f"frac(a > 1, points={size}, min_points=1)",
            "nested": f"best(mean(a, points={size}))",
        }
    )
    history: list[Point] = []
    best_mean = NAN
    for point in points(moves):
        history.append(point)
        found = read(run, point)
        raw = values(history)
        finite = [value for value in raw if math.isfinite(value)]
        average = NAN
        for value in finite:
            average = value if math.isnan(average) else average + 2 / (size + 1) * (value - average)
        window = finite[-size:]
        if len(window) == size and math.isfinite(point[2]):
            mean = math.fsum(window) / size
            best_mean = mean if math.isnan(best_mean) else max(best_mean, mean)
        before = (finite[:-1] if math.isfinite(raw[-1]) else finite)[-size:]
        known = [float(value > 1) for value in raw if not math.isnan(value)]
        middle = statistics.median(before) if before else NAN
        spread = statistics.stdev(before) if len(before) > 2 else NAN
        robust = 1.4826 * deviation(before) + 0.01 * abs(middle) if len(before) > 2 else NAN
        scale = max(map(abs, finite), default=0.0)
        expected = {
            "best": max(finite, default=NAN),
            "least": min(finite, default=NAN),
            "initial": math.fsum(finite[:size]) / size if len(finite) >= size else NAN,
            "ewma": average,
            "nonfinite": float(len(raw) - len(finite)),
            "last": raw[-1],
            "prev": raw[-3] if len(raw) > 2 else NAN,
            "rzscore": (raw[-1] - middle) / robust if robust else NAN,
            "frac": math.fsum(known[-size:]) / len(known[-size:]) if known else NAN,
            "nested": best_mean,
        }
        for name, value in expected.items():
            assert agree(found[name], value, scale if name in ("initial", "nested") else 0.0), (name, raw)
        if not math.isnan(spread) and spread > 1e-9 * scale:
            score = (raw[-1] - math.fsum(before) / len(before)) / spread
            assert agree(found["zscore"], score, 1.0), raw


@pytest.mark.parametrize(
    "call",
    [
        *(row[0].format(w="points=3") for row in {**WINDOWED, **OF_POINTS}.values()),
        *(row[0].format(w="steps=30") for row in WINDOWED.values()),
        "oscillation(a, points=60)",
        "time_to(a, 3, time='1m')",
        "steps_to(a, 3, steps=30, model='exp')",
        "best(a)",
        "ewma(a, points=5)",
        "initial(a, points=3)",
        "zscore(a, points=5, min_points=2)",
        "rzscore(a, points=5, min_points=2)",
        "relgap(a, -a)",
        "exp(a) + log(a) + sqrt(a) + a ** a",
        "a % 3 + a / a",
        "best(a * a) - best(a + a)",
    ],
)
def test_no_number_breaks_a_function_and_it_heals(call: str) -> None:
    """The greatest and the least numbers, zero, NaN and infinities; afterwards the answer is as if they had
    not been, unless it remembers from the beginning.
    """
    bad = (MOST, MOST, MOST, MOST, -MOST, MOST, -MOST, 5e-324, 0.0, NAN, INF, -INF, 1e20, -1e20, MOST)
    run, fresh = evaluator({"f": call}, f"{call} != {call}"), evaluator({"f": call})
    for n, value in enumerate(bad * 2):
        read(run, (n, 1000.0 + n, value))
        read(fresh, (n, 1000.0 + n, 1.0 if math.isfinite(value) else value))
    assert not run.errors
    for n in range(100, 400):
        point = (n, 1000.0 + n, 2.0 + math.sin(n))
        found, expected = read(run, point)["f"], read(fresh, point)["f"]
    assert not run.errors
    if not call.startswith(("best", "initial", "ewma")):
        assert agree(found, expected, 1e-6)


def test_tags_on_axes_of_their_own_are_joined_by_arrival() -> None:
    """Episodes count one by one and go back at a resume, updates by hundreds: windows go by the first."""
    run = compile_rules(
        build(
            [
                (
                    "",
                    parse(
                        '[[rule]]\nname = "r"\nexpr = "m[\'ep\'] > 9"\n'
                        "let = { both = \"sum(m['ep'] + m['loss'], steps=3)\" }\n",
                        "rules.toml",
                    ),
                )
            ]
        )
    ).evaluator()
    found = []
    for n, (episode, update) in enumerate([(1, 100), (2, 200), (3, 300), (4, 400), (2, 500), (5, 600)]):
        wall = 1000.0 + n
        run.feed([("ep", episode, wall, 1.0), ("loss", update, wall, float(n))])
        run.flush()
        found.append(run.names("r")["both"])
    # Episode 2, come again after 4, lies in (1, 4]; it stays in (2, 5], behind episode 3 which is in it.
    assert found == [1.0, 3.0, 6.0, 9.0, 14.0, 18.0]


def test_a_tag_that_two_writers_log_in_turn_keeps_its_window_and_its_order() -> None:
    """Steps zig-zag between 100 and 10: nothing is lost, and nothing raises."""
    run = evaluator({"n": "count(a, steps=50)", "s": "slope(a, points=6)", "t": "throughput(a, points=6)"})
    for n in range(40):
        found = read(run, (100 + n if n % 2 else 10 + n, 1000.0 + n, float(n)))
    assert found["n"] == 40 - next(k for k in range(40) if (100 + k if k % 2 else 10 + k) > 139 - 50)
    assert all(map(math.isfinite, (found["s"], found["t"])))


def test_every_pair_of_neighbours_of_one_step_counts() -> None:
    """Vector environments log several episodes at one step: each is a point; one step is no line."""
    run = evaluator(
        {"n": "count(a, steps=10)", "d": "doubling_steps(a, points=4)", "s": "slope(a, points=5)"}
    )
    for n in range(6):
        found = read(run, (7, 1000.0 + n, 1.0 + n))
    assert (found["n"], found["d"]) == (6.0, INF)
    assert math.isnan(found["s"])
