"""A channel of another package: installed as pip installs it, found by its kind, and wrong in every way."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from notifier import installed
from rules.source import RuleErrors
from sentinel.cli import main
from sentinel.config import load

EXAMPLE = Path(__file__).parents[2] / "examples" / "notifier"
HEAD = 'version = 1\ninclude = ["pack:generic"]\n[notify.console]\nenabled = false\n'


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages with the example in it, as pip leaves it there."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    folder = tmp_path / "site"
    folder.mkdir()
    shutil.copy(EXAMPLE / "team_log.py", folder)
    about = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = project["entry-points"][installed.GROUP]
    lines = [f"{name} = {where}" for name, where in {**points, "broken": "no_such_module:X"}.items()]
    (about / "entry_points.txt").write_text("\n".join([f"[{installed.GROUP}]", *lines]) + "\n")
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, "team_log", raising=False)
    return folder


def config(folder: Path, text: str) -> Path:
    path = folder / "sentinel.toml"
    path.write_text(HEAD + text, encoding="utf-8")
    return path


def problems(path: Path) -> str:
    with pytest.raises(RuleErrors) as caught:
        load(path)
    return "\n".join(problem.render() for problem in caught.value.problems)


def test_it_is_found_by_its_kind(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`sentinel check` knows its keys, `sentinel notify --test` delivers by it."""
    log = tmp_path / "log.jsonl"
    path = config(tmp_path, f'[notify.archive]\nkind = "team_log"\npath = "{log}"\nat_least = "info"\n')
    assert main(["check", str(path)]) == 0
    assert main(["notify", "--test", "-c", str(path)]) == 0
    kinds = [json.loads(line)["kind"] for line in log.read_text(encoding="utf-8").splitlines()]
    assert kinds == ["opened", "update", "closed", "notice"]
    assert "archive: notice: delivered" in capsys.readouterr().out
    [route] = load(path).routes
    assert (route.channel, route.at_least) == ("archive", "info")


def test_a_channel_named_like_it_needs_no_kind(site: Path, tmp_path: Path) -> None:
    """As with our own."""
    assert load(config(tmp_path, '[notify.team_log]\npath = "/a"\n')).routes[0].channel == "team_log"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('kind = "team_log"\npth = "/a"', "unknown key 'pth' for kind 'team_log'"),
        ('kind = "team_log"\npth = "/a"', "did you mean 'path'?"),
        ('kind = "team_log"', "kind 'team_log' requires the key 'path'"),
        ('kind = "team_lgo"', "did you mean 'team_log'"),
        ('kind = "team_log"\npath = "/a"\nat_least = "mild"', "at_least"),
        ('kind = "broken"', "kind 'broken' of no_such_module:X cannot be imported (ModuleNotFoundError"),
    ],
)
def test_what_is_wrong_with_its_table_is_told(site: Path, tmp_path: Path, text: str, words: str) -> None:
    """When the file is read, not when the first message is lost."""
    assert words in problems(config(tmp_path, f"[notify.archive]\n{text}\n"))


def test_a_value_that_it_refuses_is_told_in_its_words(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A ValueError is a word to the user."""
    path = config(tmp_path, '[notify.archive]\nkind = "team_log"\npath = "relative"\n')
    assert main(["notify", "--test", "-c", str(path)]) == 2
    assert "path must be absolute" in capsys.readouterr().err


def test_without_the_package_its_kind_is_unknown(tmp_path: Path) -> None:
    """On a machine where nobody has installed it."""
    path = config(tmp_path, '[notify.archive]\nkind = "team_log"\npath = "/a"\n')
    assert "no kind of channel is called 'team_log' here" in problems(path)


def test_the_example_passes_its_own_test(site: Path) -> None:
    """As its author runs it, in a process of its own."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            str(EXAMPLE),
            str(EXAMPLE),
        ],
        env={"PYTHONPATH": f"{site}:{EXAMPLE.parents[1]}", "PATH": "/usr/bin:/bin"},
        cwd=site,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
