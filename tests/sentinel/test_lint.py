"""What keeps rules from working in a run is said, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from rules.lint_found import Lint
from rules.series import Sample
from sentinel.cli import main
from sentinel.config import load
from sentinel.discover import scan
from sentinel.errors import RunGoneError
from sentinel.lint import LintedRun, lint_run, lint_runs
from tests.sentinel.event_files import T0, scalar

LATER = T0 + 1e6

Linted = Callable[..., list[Lint]]


def write(folder: Path, samples: Iterable[Sample], file: str = "events.out.tfevents.1") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    records = [scalar(tag, step, value, wall) for tag, step, wall, value in samples]
    (folder / file).write_bytes(b"".join(records))
    return folder


def series(tag: str, count: int, *, by: int = 100, every: float = 10.0, start: int = 0) -> list[Sample]:
    return [(tag, start + by * (n + 1), T0 + every * (n + 1), 1.0 + n % 3) for n in range(count)]


def together(*parts: Sequence[Sample]) -> list[Sample]:
    return sorted((sample for part in parts for sample in part), key=lambda sample: sample[2])


@pytest.fixture
def linted(tmp_path: Path) -> Linted:
    """Lint some samples by some rules."""

    def run(rules: str, samples: Iterable[Sample], now: float = LATER) -> list[Lint]:
        return list(linted_run(tmp_path, rules, samples, now).lints)

    return run


def linted_run(folder: Path, rules: str, samples: Iterable[Sample], now: float = LATER) -> LintedRun:
    config = folder / "sentinel.toml"
    config.write_text(rules, encoding="utf-8")
    found = scan(write(folder / "run", samples))
    return lint_run("run", found["."], load(config), now)


def rule(expr: str, more: str = "", metrics: str = 'q = ["q"]') -> str:
    return f"[metrics]\n{metrics}\n[[rule]]\nname = 'it'\nexpr = \"{expr}\"\n{more}\n"


def codes(found: Iterable[Lint]) -> list[str]:
    return [lint.code for lint in found]


# -- names -----------------------------------------------------------------------


def test_a_metric_without_a_tag_is_one_lint_that_names_its_rules_and_the_nearest_tag(linted: Linted) -> None:
    """One for the metric, though two rules lack it: one is blind, one has another arm."""
    rules = rule("reward < 0", metrics='reward = ["train/reward"]\nq = ["q"]')
    rules += "[[rule]]\nname = 'other'\nexpr = 'reward < 0 or q > 50'\n"
    (lint,) = linted(rules, together(series("q", 5), series("train/rewards", 5)))
    assert (lint.code, lint.metric, lint.severity) == ("unresolved", "reward", "warning")
    assert lint.rules == ("it", "other")
    assert "it can never fire; other can fire, but lacks an arm" in lint.what
    assert "reward = ['train/rewards']" in lint.hint


def test_a_metric_whose_second_candidate_is_logged_is_not_told(linted: Linted) -> None:
    """One of the candidates is enough."""
    rules = rule("reward < 0", metrics='reward = ["train/reward", "train/rewards"]')
    assert linted(rules, series("train/rewards", 5)) == []


def test_what_only_lacks_an_arm_is_information(linted: Linted) -> None:
    """The rule works."""
    (lint,) = linted(rule("q > 50 or q2 > 50", metrics='q = ["q"]\nq2 = ["q2"]'), series("q", 5))
    assert (lint.code, lint.severity) == ("unresolved", "info")


def test_a_run_that_goes_on_is_given_time_for_its_names(linted: Linted) -> None:
    """Some tags come late; after 200 ticks one need not wait."""
    rules = rule("reward < 0", metrics='reward = ["reward"]')
    assert linted(rules, series("q", 199), now=T0 + 2000) == []
    assert codes(linted(rules, series("q", 200), now=T0 + 2000)) == ["unresolved"]


def test_what_the_sentinel_measures_itself_is_not_missed(linted: Linted) -> None:
    """No recording holds it."""
    assert linted(rule("disk < 0.1", metrics='disk = ["sys/disk_free_frac"]'), series("q", 5)) == []


def test_a_pack_that_sees_nothing_is_one_lint(tmp_path: Path) -> None:
    """Ten rules and their metrics would say the same twenty times."""
    found = linted_run(tmp_path, 'include = ["pack:dqn"]\n', series("speed", 30))
    (lint,) = found.lints
    assert (lint.code, lint.metric, lint.severity) == ("pack", "dqn", "warning")


def test_a_rule_for_other_runs_is_not_told(linted: Linted) -> None:
    """It says itself that it is not for this one."""
    assert linted(rule("q > 50", "when = 'known(other)'", 'q = ["q"]\nother = ["o"]'), series("q", 5)) == []


def test_a_pattern_that_fits_no_tag_is_told(linted: Linted) -> None:
    """The rule does not exist in this run."""
    (lint,) = linted(rule("x > 50", "each = 'grad/{part}'"), series("grads/a", 5))
    assert (lint.code, lint.metric, lint.severity) == ("each", "grad/{part}", "warning")
    assert linted(rule("x > 50", "each = 'grad/{part}'"), series("grad/a", 5)) == []


def test_a_pattern_that_fits_more_than_a_thousand_tags_is_told(linted: Linted) -> None:
    """As many messages would come when they fire."""
    for count, expected in ((1000, []), (1001, ["each"])):
        samples = [(f"w/{n}", 1, T0, 1.0) for n in range(count)]
        assert codes(linted(rule("x > 50", "each = 'w/*'"), samples)) == expected


# -- windows, for, warm-up -----------------------------------------------------------


@pytest.mark.parametrize(
    ("expr", "enough"),
    [
        ("mean(q, points=20) > 50", 20),
        ("delta(q, points=20) > 50", 16),
        ("mean(q, points=20, min_points=7) > 50", 7),
        ("mean(mean(q, points=20), points=5) > 50", 24),
        ("mean(q - prev(q, n=2), points=5) > 50", 7),
        ("initial(q, points=9) > 50", 9),
        ("rzscore(q, points=128) > 6", 21),
        ("rising(q, steps=2000)", 17),
        ("delta(q, steps=1000) > 50", 9),
        ("delta(q, time='100s') > 50", 9),
    ],
)
def test_a_window_that_never_fills_is_told_to_the_point(linted: Linted, expr: str, enough: int) -> None:
    """With one point more the rule has an answer, and nothing is said."""
    (lint,) = linted(rule(expr), series("q", enough - 1))
    assert (lint.code, lint.severity, lint.metric) == ("window", "warning", "q")
    assert "could not fire" in lint.what
    assert linted(rule(expr), series("q", enough)) == []


def test_a_window_that_holds_too_few_points_at_any_length_is_told(linted: Linted) -> None:
    """500 steps are five points where one is logged every 100."""
    (lint,) = linted(rule("rising(q, steps=500)"), series("q", 100))
    assert (lint.code, lint.severity) == ("window", "warning")
    assert "needs 12 points, and of q its window holds 5" in lint.what
    assert linted(rule("rising(q, steps=500)"), series("q", 100, by=40)) == []


def test_an_arm_that_never_had_its_window_is_information(linted: Linted) -> None:
    """The other arm was judged."""
    (lint,) = linted(rule("q > 50 or mean(q, points=20) > 20"), series("q", 10))
    assert (lint.code, lint.severity) == ("window", "info")


def test_a_window_that_something_else_has_to_hold_with_makes_a_rule_blind(linted: Linted) -> None:
    """Though its answer was False, and so known, wherever the other condition was."""
    (lint,) = linted(rule("q > 50 and mean(q, points=20) > 20"), series("q", 10))
    assert (lint.code, lint.severity) == ("window", "warning")


def test_what_a_longer_run_would_mend_is_information_of_a_pack(tmp_path: Path) -> None:
    """A pack's rule is for runs of any length, one of your own was written for these."""
    own = rule("mean(q, points=500) > 1")
    found = linted_run(tmp_path, f'include = ["pack:generic"]\n{own}', series("q", 250)).lints
    grades = {name: lint.severity for lint in found if lint.code == "window" for name in lint.rules}
    assert grades == {"it": "warning"}
    found = linted_run(tmp_path, f'include = ["pack:generic"]\n{own}', series("q", 100)).lints
    grades = {name: lint.severity for lint in found if lint.code == "window" for name in lint.rules}
    assert grades == {"it": "warning", "generic/throughput_drop": "info"}


def test_windows_over_one_series_are_one_lint(linted: Linted) -> None:
    """The longest first, each with what it needs."""
    rules = rule("mean(q, points=20) > 1") + "[[rule]]\nname = 'b'\nexpr = 'mean(q, points=30) > 1'\n"
    (lint,) = linted(rules, series("q", 10))
    assert lint.rules == ("b", "it")
    assert lint.what.endswith("these could not fire, and need more: b 30, it 20")


def test_a_run_that_goes_on_is_told_only_of_windows_that_take_long(linted: Linted) -> None:
    """Forty points at one every ten seconds are soon there; at one in ten minutes they are not."""
    rules = rule("mean(q, points=50) > 50")
    assert linted(rules, series("q", 10), now=T0 + 101) == []
    (lint,) = linted(rules, series("q", 10, every=600), now=T0 + 6001)
    assert (lint.code, lint.severity) == ("window", "info")
    assert "at its pace the rest in 6" in lint.what


@pytest.mark.parametrize(("span", "count"), [("20 points", 20), ("1000 steps", 11), ("100s", 11)])
def test_a_hold_that_is_longer_than_the_run_is_told(linted: Linted, span: str, count: int) -> None:
    """It never fires; with one point more it could."""
    (lint,) = linted(rule("q > 50", f"for = '{span}'"), series("q", count - 1))
    assert (lint.code, lint.severity) == ("hold", "warning")
    assert linted(rule("q > 50", f"for = '{span}'"), series("q", count)) == []


@pytest.mark.parametrize(("short", "longer"), [("100 steps", "101 steps"), ("10s", "11s")])
def test_a_hold_within_one_logging_interval_is_information(linted: Linted, short: str, longer: str) -> None:
    """The second point always fulfils it, so it says less than it seems to."""
    (lint,) = linted(rule("q > 50", f"for = '{short}'"), series("q", 30))
    assert (lint.code, lint.severity) == ("hold", "info")
    assert linted(rule("q > 50", f"for = '{longer}'"), series("q", 30)) == []


def test_a_hold_of_silence_is_counted_by_the_clock(linted: Linted) -> None:
    """A rule that is judged between points does not wait for them."""
    assert linted(rule("stale(q, time='5m')", "for = '10m'"), series("q", 30)) == []


@pytest.mark.parametrize("said", ["after_step = 1000", "after_points = 10", "after_time = '90s'"])
def test_a_warm_up_that_is_longer_than_the_run_is_told(linted: Linted, said: str) -> None:
    """It never had an opinion; with one point more it has."""
    (lint,) = linted(rule("q > 50", said), series("q", 9))
    assert (lint.code, lint.severity) == ("warm-up", "warning")
    assert linted(rule("q > 50", said), series("q", 10)) == []


# -- axes, answers, tags ------------------------------------------------------------


EPISODES = together(series("len", 60, by=1), series("q", 60))


@pytest.mark.parametrize(
    ("expr", "more"),
    [
        ("mean(len, steps=20) < 5", ""),
        ("len < 5", "for = '20 steps'"),
        ("len < 5", "after_step = 20"),
        ("len < 5", "keep_firing_for = '20 steps'"),
    ],
)
def test_steps_on_the_axis_of_episodes_are_told(linted: Linted, expr: str, more: str) -> None:
    """20 steps there are 20 episodes; counted in points there is no doubt."""
    (lint,) = linted(rule(expr, more, metrics='len = ["len"]'), EPISODES)
    assert (lint.code, lint.metric, lint.severity) == ("axis", "len", "warning")
    assert "ends at 60 while the run is at 6000" in lint.what
    in_points = rule(
        expr.replace("steps", "points"), more.replace("steps", "points").replace("_step ", "_points ")
    )
    assert linted(in_points.replace('q = ["q"]', 'len = ["len"]'), EPISODES) == []


def test_a_series_that_is_logged_at_every_step_is_no_episode_axis(linted: Linted) -> None:
    """It goes up by one and is as far as the run; nor is one that ended early, or a run of one axis."""
    rules = rule("mean(len, steps=20) < 5", metrics='len = ["len"]')
    assert linted(rules, together(series("len", 3000, by=1, every=0.2), series("q", 30))) == []
    assert linted(rules, together(series("len", 60, by=1, every=0.1), series("q", 60))) == []
    assert linted(rules, series("len", 60, by=1)) == []


def test_a_rule_that_never_had_an_answer_is_told_with_the_part_that_is_unknown(linted: Linted) -> None:
    """Its metrics are there, its window is not: nothing else says it."""
    rules = rule("q > 0 and log(q - 100) > 0")
    (lint,) = linted(rules, series("q", 30))
    assert (lint.code, lint.severity) == ("never", "warning")
    assert "log(q - 100)" in lint.what


def test_a_rule_with_an_arm_that_was_known_is_not_blind(linted: Linted) -> None:
    """q > 50 would have fired: that is information."""
    (lint,) = linted(rule("q > 50 or log(q - 100) > 0"), series("q", 30))
    assert (lint.code, lint.severity) == ("never", "info")


def test_one_answer_is_enough(linted: Linted) -> None:
    """However short: here at one point of many."""
    samples = [
        (tag, step, wall, 101.5 if step == 700 else value) for tag, step, wall, value in series("q", 3000)
    ]
    assert linted(rule("log(q - 100) > 0"), samples) == []


def test_a_series_that_is_nan_from_its_first_point_is_told(linted: Linted) -> None:
    """No rule on it can answer; one number among them, and nothing is said."""
    nan = [("q", 100 * n, T0 + 10 * n, float("nan")) for n in range(1, 9)]
    found = linted(rule("q > 50"), nan)
    assert [(lint.code, lint.metric, lint.severity) for lint in found if lint.code == "nan"] == [
        ("nan", "q", "warning")
    ]
    assert "nan" not in codes(linted(rule("q > 50"), [*nan, ("q", 900, T0 + 90, 1.0)]))


def test_a_rule_that_looks_for_nan_is_not_blinded_by_it(linted: Linted) -> None:
    """That is what it is for."""
    nan = [("q", 100 * n, T0 + 10 * n, float("nan")) for n in range(1, 9)]
    (lint,) = linted(rule("not is_finite(q)"), nan)
    assert (lint.code, lint.severity) == ("nan", "info")


def test_points_that_are_logged_twice_are_information_where_a_window_holds_them(linted: Linted) -> None:
    """A comparison of the last point does not mind."""
    twice = [point for sample in series("q", 30) for point in (sample, sample)]
    (lint,) = linted(rule("mean(q, points=5) > 50"), twice)
    assert (lint.code, lint.metric, lint.severity) == ("duplicate", "q", "info")
    assert "30 repeat" in lint.what
    assert linted(rule("q > 50"), twice) == []
    assert linted(rule("mean(q, points=5) > 50"), [*series("q", 100), ("q", 10000, T0 + 1001, 1.0)]) == []


def test_two_loggers_of_one_tag_are_told_with_their_files(tmp_path: Path) -> None:
    """Steps that zig-zag are not a run that begins again."""
    (tmp_path / "s.toml").write_text(rule("mean(q, points=5) > 50"))
    write(tmp_path / "run", series("q", 60))
    behind = [("q", step - 50, wall + 1, value) for _, step, wall, value in series("q", 60)]
    write(tmp_path / "run", behind, "events.out.tfevents.2")
    found = lint_run("run", scan(tmp_path / "run")["."], load(tmp_path / "s.toml"), LATER)
    (lint,) = found.lints
    assert lint.code == "duplicate"
    assert "go back to an earlier step, from 2 event files" in lint.what


def test_a_run_without_scalars_is_told(linted: Linted) -> None:
    """An empty run and a healthy one look alike."""
    assert codes(linted(rule("q > 50"), [])) == ["empty"]


# -- the command ---------------------------------------------------------------------


def run(*arguments: object) -> int:
    return main(["lint", *map(str, arguments)])


def test_the_exit_code_says_whether_there_is_more_than_information(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 clean, 0 with notes, 1 with warnings, 2 and 5 for what could not be looked at."""
    config = tmp_path / "s.toml"
    config.write_text(rule("q > 50"))
    clean = write(tmp_path / "clean", series("q", 5))
    assert run(clean, "-c", config) == 0
    assert "clean: 1 rule, 5 points, ended: nothing to say" in capsys.readouterr().out
    config.write_text(rule("q > 50 or mean(q, points=20) > 20"))
    assert run(clean, "-c", config) == 0
    assert "1 note" in capsys.readouterr().out
    config.write_text(rule("mean(q, points=20) > 20"))
    assert run(clean, "-c", config) == 1
    out = capsys.readouterr().out
    assert "why: until a window holds what its function needs" in out
    assert "try: " in out
    assert run(clean, "-c", tmp_path / "none.toml") == 2
    assert run(tmp_path / "nowhere", "-c", config) == 5


def test_many_runs_are_counted_and_v_shows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A tree of runs would fill the screen."""
    config = tmp_path / "s.toml"
    config.write_text(rule("mean(q, points=20) > 20"))
    for name, count in (("a", 5), ("b", 6), ("c", 30)):
        write(tmp_path / "runs" / name, series("q", count))
    assert run(tmp_path / "runs", "-c", config) == 1
    out = capsys.readouterr().out
    assert "3 runs, 1 of them with nothing to say" in out
    assert "in 2 runs    q (2)" in out
    assert run(tmp_path / "runs", "-v", "-c", config) == 1
    assert "b: 1 rule, 6 points, ended: 1 warning" in capsys.readouterr().out


def test_json_has_every_finding_of_every_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For a script, whatever is asked to be shown to people."""
    config = tmp_path / "s.toml"
    config.write_text(rule("mean(q, points=20) > 20"))
    assert run(write(tmp_path / "a", series("q", 5)), "-c", config, "--json") == 1
    (found,) = json.loads(capsys.readouterr().out)["runs"]
    assert (found["run"], found["finished"], found["points"]) == ("a", True, 5)
    assert [(lint["code"], lint["rules"]) for lint in found["lints"]] == [("window", ["it"])]


def test_a_path_without_runs_is_said_before_any_is_read(tmp_path: Path) -> None:
    """Not after minutes of reading the others."""
    (tmp_path / "s.toml").write_text(rule("q > 50"))
    paths = [write(tmp_path / "a", series("q", 5)), tmp_path / "nowhere"]
    with pytest.raises(RunGoneError, match="nowhere"):
        next(lint_runs(paths, load(tmp_path / "s.toml"), LATER))


# -- real runs -----------------------------------------------------------------------


def test_the_incident_gets_what_is_true_of_it(corpus: Path, tmp_path: Path) -> None:
    """Seven points of learning: what needs more is told, what saw it coming is not."""
    (run_files,) = scan(corpus / "SEED047").values()
    found = lint_run("SEED047", run_files, load(None), LATER * 2)
    assert found.clean
    told = {name for lint in found.lints for name in lint.rules}
    assert {"td3/td_error_rising", "td3/gradient_exploding", "generic/throughput_drop"} <= told
    assert not told & {"td3/actor_exploits_critic", "td3/episodes_collapse", "td3/actor_q_high"}
    config = tmp_path / "s.toml"
    config.write_text(rule("mean(len, steps=20) < 20", metrics='len = ["train/episode_length"]'))
    (lint,) = lint_run("SEED047", run_files, load(config), LATER * 2).lints
    assert lint.code == "axis"
    assert "ends at 58 while the run is at 1700" in lint.what


@pytest.mark.slow
def test_no_run_of_the_corpus_breaks_it(corpus: Path) -> None:
    """197 files of eight projects, by the rules of every pack."""
    packs = ["generic", "td3", "sac", "ppo", "dqn", "supervised", "llm", "rlhf", "gan", "carla"]
    found = list(lint_runs([corpus], load(None, packs), LATER * 2))
    assert len(found) == 197
    assert "failed" not in {lint.code for run in found for lint in run.lints}
