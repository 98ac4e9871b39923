"""`sentinel init`: what it writes loads as it stands, says what it saw, and harms no file that is there."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.coverage import coverage
from sentinel.cli import main
from sentinel.config import load
from sentinel.errors import RunGoneError
from sentinel.frameworks import recognise
from sentinel.starter import Survey, SurveyedRun, compose, survey
from tests.sentinel.event_files import scalar

SB3_TD3 = ("rollout/ep_rew_mean", "rollout/ep_len_mean", "time/fps", "train/actor_loss", "train/critic_loss")


def write_run(folder: Path, tags: Iterable[str]) -> Path:
    folder.mkdir(parents=True)
    records = b"".join(scalar(tag, step) for step in (1, 2) for tag in tags)
    (folder / "events.out.tfevents.1").write_bytes(records)
    return folder


def surveyed(*runs: tuple[str, Iterable[str]]) -> Survey:
    return Survey(
        Path("runs"), tuple(SurveyedRun(name, Counter(tags), recognise(set(tags))) for name, tags in runs), ()
    )


def test_what_it_writes_is_in_force_as_it_stands(tmp_path: Path) -> None:
    """The packs that fit are included, the log directory is the one that was named, and nothing acts."""
    logdir = write_run(tmp_path / "runs" / "a", SB3_TD3).parent
    output = tmp_path / "sentinel.toml"
    assert main(["init", str(logdir), "-o", str(output)]) == 0
    settings = load(output)
    assert settings.mode == "observe"
    assert settings.logdir == logdir
    assert {rule.name.partition("/")[0] for rule in settings.rules.rules} == {"generic", "td3"}


def test_it_says_which_rules_cannot_work_and_what_would_enable_them() -> None:
    """Stock Stable-Baselines3 logs no Q of replayed actions: the rule in need of it is told, with tags."""
    text = compose(surveyed(("a", SB3_TD3)))
    see, _, rest = text.partition("# ── rules that cannot work here")
    assert "Recognised: Stable-Baselines3, 1 run." in see
    assert "td3/critic_diverging" in see
    assert "td3/actor_exploits_critic" in rest
    assert "debug/q1_mean" in rest


def test_every_rule_is_listed_once_under_what_it_can_see() -> None:
    """Of each rule it says what `coverage` says of it."""
    text = compose(surveyed(("a", SB3_TD3)))
    blind = text.partition("# ── rules that cannot work here")[2]
    tags = {*SB3_TD3, "sys/process_alive", "sys/disk_free_frac", "sys/rss_frac"}
    for seen in coverage(load(None).program, tags):
        assert text.count(f" {seen.rule}\n") == 1, seen.rule
        assert (f" {seen.rule}\n" in blind) is (seen.sight in {"blind", "inapplicable"}), seen.rule


def test_a_tag_that_is_spelt_alike_is_suggested_and_not_put_in_force() -> None:
    """Only a person knows whether `my/td_errors` is the TD error."""
    text = compose(surveyed(("a", (*SB3_TD3, "my/td_errors"))))
    assert '# td_error = ["my/td_errors"]' in text


def test_a_run_of_nobodys_is_watched_by_the_generic_rules() -> None:
    """What is not recognised is said by name, and left to the person."""
    text = compose(surveyed(("mine", ("Return",)), ("b", SB3_TD3)))
    assert "watched by the generic rules alone: mine." in text


def test_runs_without_scalars_and_unreadable_files_are_told(tmp_path: Path) -> None:
    """An empty run is no run of nothing, and a folder without event files is an error."""
    write_run(tmp_path / "runs" / "a", SB3_TD3)
    write_run(tmp_path / "runs" / "empty", ())
    assert survey(tmp_path / "runs").empty == ("empty",)
    assert "Without any scalar yet: empty." in compose(survey(tmp_path / "runs"))
    with pytest.raises(RunGoneError, match="no TensorBoard event file"):
        survey(tmp_path / "nowhere")


def test_a_file_that_is_there_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody may have spent a day on it; --force replaces it, - prints."""
    logdir = write_run(tmp_path / "runs" / "a", SB3_TD3).parent
    output = tmp_path / "sentinel.toml"
    output.write_text("mine", encoding="utf-8")
    assert main(["init", str(logdir), "-o", str(output)]) == 2
    assert output.read_text(encoding="utf-8") == "mine"
    assert "--force" in capsys.readouterr().err
    assert main(["init", str(logdir), "-o", "-"]) == 0
    assert capsys.readouterr().out.startswith("# sentinel.toml")
    assert main(["init", str(logdir), "-o", str(output), "--force"]) == 0
    load(output)
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


@given(
    st.lists(
        st.tuples(st.text(min_size=1), st.lists(st.text(min_size=1), max_size=4)), min_size=1, max_size=3
    )
)
def test_no_name_on_disk_breaks_the_file(runs: list[tuple[str, list[str]]]) -> None:
    """Tags and folders may hold quotes, line ends, brackets: the file is TOML all the same."""
    text = compose(surveyed(*[(name, (*SB3_TD3, *tags)) for name, tags in runs]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sentinel.toml"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        assert load(path).logdir == Path("runs")
