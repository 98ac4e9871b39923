"""sentinel.toml: everything that is wrong with it at once, with its place and the nearest right word."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from rules.source import RuleErrors
from sentinel.config import load
from sentinel.errors import ConfigError
from sentinel.foreign import Patterns
from tests.fakes import FakeClock

Write: TypeAlias = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str, name: str = "sentinel.toml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def problems(path: Path, packs: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(RuleErrors) as caught:
        load(path, packs)
    return [problem.render() for problem in caught.value.problems]


def test_every_problem_of_every_file_comes_at_once(write: Write, tmp_path: Path) -> None:
    """Whoever corrects one at a time starts the sentinel ten times."""
    write('[[rule]]\nname = "x"\nexpr = "loss >"\n', "team.toml")
    path = write(
        'include = ["./team.toml", "pack:tb3", "./nowhere.toml"]\n'
        'mode = "observ"\n'
        "[trainer]\n"
        "ack_timeout = 30\n"
        "[run]\n"
        'logdr = "runs"\n'
        "[limit]\n"
        "max_rollbacks = 3\n"
    )
    found = "\n".join(problems(path))
    for place, words in [
        (f"{path}:2", "mode"),
        (f"{path}:4", "ack_timeout"),
        (f"{path}:6", "did you mean 'logdir'"),
        (f"{path}:7", "did you mean 'limits'"),
        (f"{path}:1", "no pack 'tb3'"),
        (f"{path}:1", "nowhere.toml: No such file"),
    ]:
        assert any(place in problem and words in problem for problem in problems(path)), (place, words, found)


def test_restarts_and_resume_commands_are_checked_when_they_are_read(write: Write) -> None:
    """Each at its place; in the night in which they are needed nobody is there to mend them."""
    path = write(
        'include = ["pack:generic"]\n'
        "[trainer]\n"
        'resume = "python train.py --resume {chekpoint}"\n'
        'override_style = "--{name}"\n'
        "[trainer.restart]\n"
        'on = "failur"\n'
        'budget = "5 an hour"\n'
        "maximum = 3\n"
        "[trainer.parameters]\n"
        "lr = { value = 0.1, lo = 0 }\n"
    )
    found = problems(path)
    for line, words in [
        (3, "did you mean 'checkpoint'?"),
        (4, "it names no {value}"),
        (6, "did you mean 'failure'?"),
        (7, 'write "5 in 1h"'),
        (8, "did you mean 'max'?"),
        (10, "unknown key 'lo'"),
    ]:
        assert any(f"{path}:{line}:" in problem and words in problem for problem in found), (line, found)


def test_a_resume_command_in_force(write: Write) -> None:
    """Never a restart unless it was asked for; a bare number is a parameter's value."""
    plain = load(write('include = ["pack:generic"]\n'))
    assert (plain.restart.on, plain.resume) == ("never", None)
    text = (
        'include = ["pack:generic"]\n[trainer]\nresume = "a {checkpoint} {overrides}"\n'
        'restart = { on = "failure", budget = "2 in 30m" }\nparameters = { lr = 0.1 }\n'
    )
    found = load(write(text))
    assert (found.restart.on, found.restart.budget.count, found.restart.budget.seconds) == (
        "failure",
        2,
        1800,
    )
    assert found.resume is not None
    assert found.service.trainer.parameters["lr"].value == 0.1


def test_an_included_file_is_at_fault_in_its_own_name(write: Write) -> None:
    """The place is where it is to be corrected."""
    team = write('[[rule]]\nname = "x"\nexpr = "loss >"\n', "team.toml")
    (problem,) = problems(write('include = ["./team.toml"]\n'))
    assert problem.startswith(f"{team}:3")


@pytest.mark.parametrize("include", ['"pack:generic"', "[1]", "3"])
def test_an_include_that_is_no_list_of_names_is_one_problem(write: Write, include: str) -> None:
    """Its letters are not files."""
    found = problems(write(f"include = {include}\n"))
    assert len(found) == 1
    assert "include" in found[0]
    assert problems(write(f"include = {include}\n"), ("td3",)) == found


def test_packs_of_the_command_line_keep_the_places_of_the_file(write: Write) -> None:
    """--pack adds to what the file includes."""
    path = write('[[rule]]\nname = "x"\nexpr = "nothing_known > 1"\n')
    assert any(p.startswith(f"{path}:3") for p in problems(path, ("generic",)))


@pytest.mark.parametrize("content", [None, b"\xff\xfe", "folder"])
def test_a_file_that_cannot_be_read_is_said_so(tmp_path: Path, content: object) -> None:
    """Nothing was started."""
    path = tmp_path / "sentinel.toml"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "folder":
        path.mkdir()
    with pytest.raises(ConfigError, match="nothing was started"):
        load(path)


def test_the_shipped_configurations_are_fine() -> None:
    """The repository's own example, and the packs alone."""
    assert load(Path(__file__).parents[2] / "sentinel.toml").mode == "observe"
    assert load(None).rules.rules
    assert {rule.name.partition("/")[0] for rule in load(None, ["td3"]).rules.rules} == {"td3"}


def test_signals_that_no_job_could_obey_are_refused_all_at_once(write: Write) -> None:
    """Each with the name that was meant, or why it is none."""
    path = write(
        'include = ["pack:generic"]\n[trainer.signals]\ncheckpoint = "SIGUSR"\nterminate = "SIGKILL"\n'
        'rollback = "SIGUSR2"\n[checkpoints]\npatterns = ["{stp}", "a/{step}"]\nfolders = "."\n'
    )
    text = "\n".join(problems(path))
    for said in (
        "SIGUSR1",
        "SIGKILL cannot be caught",
        "unknown key 'rollback'",
        "write {step} once",
        "say the folder in [checkpoints] folder",
        "did you mean 'folder'?",
    ):
        assert said in text, said
    for wrong, hint in (('"usr1"', "SIGUSR1"), ("10", "no signal 10"), ('"SIGSTOP"', "cannot be caught")):
        assert hint in problems(write(f"[trainer.signals]\ncheckpoint = {wrong}\n"))[0]
    path = write('[trainer.signals]\ncheckpoint = "SIGUSR1"\nterminate = "SIGUSR1"\n')
    assert "could not tell which" in problems(path)[0]


def test_what_is_agreed_with_a_job_is_read(write: Write) -> None:
    """One folder may be written without a list."""
    path = write(
        'include = ["pack:generic"]\n[trainer.signals]\nterminate = "SIGTERM"\n'
        '[checkpoints]\npatterns = ["m-{step}.pt"]\nfolder = "../.."\nsettle = "2s"\n'
    )
    terms = load(path).terms(FakeClock())
    assert dict(terms.signals) == {"terminate": signal.SIGTERM}
    assert terms.patterns == Patterns(("m-{step}.pt",), ("../..",), 2.0)
