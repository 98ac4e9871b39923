"""The documentation is complete and true where a machine can tell: names, links, tables, commands.

What exists is taken from the code and from nowhere else, so whoever adds a tag, a rule, a message or an
option is told here which page lacks its row.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel

from examples import plain_loop
from notifier import base as notifier_errors
from rules import schema
from rules.functions import FUNCTIONS
from rules.source import RuleErrors
from sentinel import channel_tables, cli, config, errors
from sentinel.actuator import State
from sentinel.checkpoints import Catalogue
from sentinel.control import Letter, Verb, read_json, read_receipt, write_letter
from trainer import checkpoint as trainer_checkpoint
from trainer import config as trainer_config
from trainer import render as trainer_render

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
WIDEST = 132


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language; of no language with ""."""
    found = re.findall(r"^```([a-z]*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [body for name, body in found if name == language]


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def lacking(names: Iterator[str] | list[str], where: str) -> list[str]:
    """Those of `names` that do not stand in a text as code."""
    return [name for name in names if f"`{name}`" not in where]


# -- tags ------------------------------------------------------------------------------------------


FAMILIES = "debug|train|gradients|rewards|eval|time|simulator|actors"


def tag_patterns() -> list[str]:
    """Every tag that the trainer writes, as a regular expression: `{…}` of an f-string is a word."""
    found = set()
    for name in ("trainer/metrics.py", "trainer/loop.py", "trainer/learner.py", "trainer/simulator.py"):
        for node in ast.walk(ast.parse(text(name))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(re.escape(node.value))
            elif isinstance(node, ast.JoinedStr):
                constants = [p.value if isinstance(p, ast.Constant) else None for p in node.values]
                found.add("".join(re.escape(c) if isinstance(c, str) else r"\w+" for c in constants))
    return sorted(p for p in found if re.fullmatch(rf"({FAMILIES})/[\w\\+]+", p))


def test_every_tag_has_a_row_and_every_row_a_tag() -> None:
    """A curve nobody explains is looked at by nobody; a row of a tag that is gone sends people searching."""
    rows = re.findall(rf"^\| `((?:{FAMILIES})/\w+)` \|", text("docs/metrics.md"), re.MULTILINE)
    patterns = tag_patterns()
    assert len(patterns) > 20, "the tags are found in the source"
    missing = [p for p in patterns if not any(re.fullmatch(p, row) for row in rows)]
    assert not missing, f"docs/metrics.md lacks a row for {missing}"
    spread = {
        f"debug/{who}_{what}" for who in ("actor_q", "q1", "q2") for what in ("mean", "max", "min", "std")
    }
    unknown = [row for row in rows if row not in spread and not any(re.fullmatch(p, row) for p in patterns)]
    assert not unknown, f"docs/metrics.md has rows for tags that nobody logs: {unknown}"
    assert spread <= set(rows)
    assert len(rows) == len(set(rows)), "a tag has one row"


def test_every_enumerated_tag_has_its_row() -> None:
    """The words inside the f-strings too: each part's gradient, each term of the reward."""
    from trainer.metrics import REWARD_TERMS

    parts = [
        f"gradients/{who}_{part}_norm" for who in ("actor", "critic") for part in ("cnn", "encoder", "mlp")
    ]
    assert not lacking([*parts, *(f"rewards/{term}" for term in REWARD_TERMS)], text("docs/metrics.md"))


def test_every_probe_has_a_row() -> None:
    """What the sentinel measures itself goes through rules as well."""
    tags = set(re.findall(r'"(sys/\w+)"', text("sentinel/probes.py")))
    assert tags
    assert not lacking(sorted(tags), text("docs/metrics.md"))


# -- rules -----------------------------------------------------------------------------------------


def shipped_rules(*names: str) -> list[str]:
    packs = [p for p in sorted((ROOT / "rules" / "packs").glob("*.toml")) if not p.name.startswith("_")]
    assert packs
    return [
        f"{p.stem}/{rule['name']}"
        for p in packs
        if not names or p.stem in names
        for rule in tomllib.loads(p.read_text(encoding="utf-8"))["rule"]
    ]


def test_every_shipped_rule_is_in_the_runbook() -> None:
    """Whoever is woken by a rule of the default packs finds its heading: what it means, what to do."""
    headings = set(re.findall(r"^### `(\S+)`$", text("docs/runbook.md"), re.MULTILINE))
    assert headings == set(shipped_rules("generic", "td3"))


def test_every_rule_says_where_it_is_guarding() -> None:
    """A rule on this trainer's metrics that docs/metrics.md never names guards nothing one could look up."""
    assert not lacking(shipped_rules("generic", "td3"), text("docs/metrics.md"))


def test_every_rule_of_every_pack_is_in_the_reference() -> None:
    """Its tables are made from the packs; a pack without a section would be one that nobody finds."""
    assert not lacking(shipped_rules(), text("docs/rules.md"))


def test_every_function_of_the_language_is_in_the_reference() -> None:
    """A function that is not in docs/rules.md can only be found by reading the source."""
    page = text("docs/rules.md")
    missing = [name for name in FUNCTIONS if not re.search(rf"`{name}\(", page)]
    assert not missing, f"docs/rules.md lacks {missing}"


# -- configuration ---------------------------------------------------------------------------------


def keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


TABLES = [
    *(config.Service, config.RunTable, config.TrainerTable, config.StateTable),
    *(config.RestartTable, config.ParameterTable, config.SignalsTable, config.CheckpointsTable),
    *(config.NotifyTable, *channel_tables.KINDS.values()),
    *(schema.RuleFile, schema.RuleSpec, schema.MetricSpec, schema.LadderSpec, schema.RungSpec),
    *(schema.RemedySpec, schema.TrySpec, schema.LimitsSpec, schema.InhibitSpec),
    *(schema.GateSpec, schema.RequirementSpec),
]


@pytest.mark.parametrize("model", TABLES, ids=lambda model: model.__name__)
def test_every_key_of_the_configuration_is_shown(model: type[BaseModel]) -> None:
    """A key that neither sentinel.toml nor a page names does not exist for its user."""
    shown = text("sentinel.toml") + "".join(page.read_text(encoding="utf-8") for page in PAGES)
    missing = [key for key in keys(model) if not re.search(rf"\b{key}\b(`| =|\.|\]| \])", shown)]
    assert not missing, f"{model.__name__}: {missing} stand neither in sentinel.toml nor in docs/"


def test_the_annotated_example_is_in_force_as_it_stands() -> None:
    """sentinel.toml is copied by people: each of its keys has to be known."""
    config.load(ROOT / "sentinel.toml")


# -- the command line ------------------------------------------------------------------------------


def subcommands() -> dict[str, argparse.ArgumentParser]:
    actions = cli._parser()._actions
    return next(dict(a.choices) for a in actions if isinstance(a, argparse._SubParsersAction))


def test_every_command_and_option_is_documented() -> None:
    """Every command is shown, and every option of it named, in README or docs."""
    shown = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for name, parser in {"": cli._parser(), **subcommands()}.items():
        assert f"sentinel {name}" in shown, f"sentinel {name} is shown nowhere"
        for action in parser._actions:
            options = [option for option in action.option_strings if option not in ("-h", "--help")]
            if options:
                assert any(re.search(rf"(?<![\w-]){o}(?![\w-])", shown) for o in options), f"{name} {options}"


def command_lines() -> list[tuple[str, str]]:
    """Every `sentinel …` line of every page's blocks that name no language, the comment cut off."""
    found = []
    for page in PAGES:
        for block in blocks(page, "") + blocks(page, "sh") + blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                called = re.search(r"(?:^|^nohup |^sudo -u \w+ |\$\(command -v )(sentinel\)? .*)", line)
                if called and not line.startswith("sentinel:"):
                    found.append((page.name, called[1].replace("sentinel)", "sentinel")))
    return found


@pytest.mark.parametrize(("page", "line"), command_lines(), ids=lambda value: value)
def test_every_command_shown_parses(page: str, line: str) -> None:
    """A line that people copy is one that the real parser takes."""
    words = shlex.split(re.sub(r" >> .*| > .*| [|] .*", "", line), comments=True)
    ours, child = cli._split(words[1:])
    options = cli._parser().parse_args(ours)
    assert not child or options.command == "run"


def test_every_trainer_command_shown_parses() -> None:
    """The trainer's lines as well; nothing is trained."""
    shown = [
        line
        for page in PAGES
        for block in blocks(page, "")
        for line in block.splitlines()
        if line.startswith("python -m trainer ") and not line.startswith("python -m trainer verify")
    ]
    assert shown
    for line in shown:
        given = shlex.split(line, comments=True)[3:]
        if given[0] == "render":
            trainer_render.parser().parse_args(given[1:])
        else:
            trainer_config.parser().parse_args(given)


def test_every_exit_code_has_its_row() -> None:
    """The codes are the same everywhere, and the runbook has one table of them."""
    page = text("docs/runbook.md")
    promised = re.search(r"exit codes: (.*)", cli._EPILOG)
    assert promised is not None
    codes = {int(code) for code in re.findall(r"\b(\d)\b", promised[1])} | {
        e.exit_code for e in classes(errors)
    }
    table = page[page.index("## Exit codes") :]
    assert codes == {int(code) for code in re.findall(r"^\| (\d) \|", table, re.MULTILINE)}


# -- errors and messages ---------------------------------------------------------------------------


def classes(module: ModuleType) -> list[type[errors.SentinelError]]:
    return [v for v in vars(module).values() if inspect.isclass(v) and issubclass(v, errors.SentinelError)]


def test_every_error_class_is_in_the_runbook() -> None:
    """An error that ends a command says what to do; the page says what kind it is."""
    ours = [error.__name__ for error in classes(errors)] + [RuleErrors.__name__]
    delivery = [notifier_errors.Transient.__name__, notifier_errors.Permanent.__name__]
    trainers = [trainer_config.ConfigError.__name__, trainer_checkpoint.CheckpointError.__name__]
    assert not lacking([*ours, *delivery, *trainers], text("docs/runbook.md"))


def test_every_outcome_of_a_command_is_in_the_runbook() -> None:
    """Whoever reads `unanswered` wants to know whether the job was harmed."""
    page = text("docs/runbook.md")
    told = [s for s in State if s not in (State.INTENDED, State.SENT, State.ACCEPTED)]
    missing = [state.value for state in told if f"`{state}`" not in page and f" {state}`" not in page]
    assert not missing, f"docs/runbook.md lacks {missing}"


def strings_in_calls(source: str, callees: set[str]) -> set[str]:
    """The literal strings among the arguments of calls to the named functions."""
    found = set()
    for node in ast.walk(ast.parse(text(source))):
        name = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
        if isinstance(node, ast.Call) and name in callees:
            found |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return found


def test_every_reason_of_an_alert_and_every_notice_is_in_the_runbook() -> None:
    """What the sentinel says in its own words can be looked up in these words."""
    page = " ".join(text("docs/runbook.md").split())
    reasons = strings_in_calls("rules/alert.py", {"_moved", "_fire"})
    titles = strings_in_calls("sentinel/live_run.py", {"_say"}) | strings_in_calls(
        "sentinel/engine.py", {"notice"}
    )
    sentences = {s for s in reasons | titles if " " in s}
    assert len(sentences) > 8, "the sentences are found in the source"
    assert not [s for s in sentences if s not in page]


def returned(source: str, function: str) -> set[str]:
    """The sentences that a function returns, each up to its first number or quotation."""
    tree = next(n for n in ast.walk(ast.parse(text(source))) if getattr(n, "name", "") == function)
    values = [n for r in ast.walk(tree) if isinstance(r, ast.Return) for n in ast.walk(r)]
    sentences = {n.value for n in values if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return {re.split(r",? ?\[limits\]|[;(']", sentence)[0].strip() for sentence in sentences}


def test_every_reason_for_not_acting_is_in_the_runbook() -> None:
    """An action that was due and not taken is told with its reason; the page says what to do about it."""
    page = " ".join(text("docs/runbook.md").split())
    reasons = returned("sentinel/policy.py", "_blocked") | returned("sentinel/registration.py", "unreachable")
    reasons = {reason for reason in reasons if " " in reason}
    assert len(reasons) > 4, "the reasons are found in the source"
    assert not [reason for reason in reasons if reason not in page]


# -- the pages themselves --------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """A relative link names a file that is there, and its anchor a heading in it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(there), f"{page.name}: no heading for {target}"


def test_pages_named_by_the_source_are_there() -> None:
    """A comment or a message that names a page of docs/ sends nobody to an empty place."""
    folders = ("rules", "sentinel", "notifier", "trainer", "examples", "benchmarks", "tests")
    files = [*ROOT.glob("*.toml"), ROOT / "Makefile"]
    files += [
        path for folder in folders for path in (ROOT / folder).rglob("*.*") if path.suffix in (".py", ".toml")
    ]
    named = {
        (page, path.name) for path in files for page in re.findall(r"docs/\w+\.md", path.read_text("utf-8"))
    }
    assert named
    assert not [(page, name) for page, name in sorted(named) if not (ROOT / page).is_file()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_toml_in_a_page_is_toml(page: Path) -> None:
    """An example with a mistake in it is a mistake in everybody's file."""
    for block in blocks(page, "toml"):
        tomllib.loads(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_speak_of_nobodys_machine(page: Path) -> None:
    """No path of the place where a page was written, no number of a ticket that its reader cannot open."""
    body = page.read_text(encoding="utf-8")
    assert not re.findall(r"/work/|/root/|/tmp/|/home/\w|[Ii]ssue #|\bTODO\b", body)


@pytest.mark.parametrize("name", ["metrics.md", "runbook.md", "guard.md"])
def test_lines_can_be_read_in_a_terminal(name: str) -> None:
    """Tables apart, no line is wider than the source's widest."""
    lines = [line for line in text(f"docs/{name}").splitlines() if not line.startswith("|")]
    assert not [line for line in lines if len(line) > WIDEST]


# -- the example loop ------------------------------------------------------------------------------


def test_the_page_shows_the_example_as_it_is() -> None:
    """The Python in docs/guard.md is the example's own source."""
    shown = "".join(blocks(DOCS / "guard.md", "python"))
    for function in (plain_loop.train, plain_loop.roll_back):
        assert inspect.getsource(function) in shown


@pytest.fixture
def doorbell() -> Iterator[None]:
    """The guard leaves its signal ignored; put back what was there."""
    before = signal.getsignal(signal.SIGUSR2)
    yield
    signal.signal(signal.SIGUSR2, before)


class Hand:
    """A sentinel's hand in the run's own process: at given points of the log it writes a letter and rings.

    Args:
        run: the run's folder. letters: each with the number of the logged point behind which it is written.
    """

    def __init__(self, run: Path, *letters: tuple[int, Letter]) -> None:
        self.control = run / "control"
        self.letters = dict(letters)
        self.points: list[tuple[int, float]] = []

    def log(self, _tag: str, value: float, step: int) -> None:
        self.points.append((step, value))
        letter = self.letters.get(len(self.points))
        if letter is not None:
            write_letter(self.control, letter)
            os.kill(os.getpid(), signal.SIGUSR2)


def letter(number: int, verb: Verb, to: int | None = None, **settings: str) -> Letter:
    name = None if to is None else f"00-{to:08d}"
    return Letter(number, verb, 0, 0.0, 4e9, to_checkpoint=name, to_step=to, set=settings)


def test_the_example_is_lost_alone(tmp_path: Path, doorbell: None) -> None:
    """Else it would show nothing."""
    alone = Hand(tmp_path)
    assert plain_loop.train(tmp_path, 300, lambda: alone.log) == "finished"
    assert not math.isfinite(alone.points[-1][1])


def test_the_example_is_saved_by_a_rollback_with_a_remedy(tmp_path: Path, doorbell: None) -> None:
    """The loop of docs/guard.md obeys: back, half the rate, past the batch that killed it, to its end."""
    hand = Hand(tmp_path, (210, letter(1, "rollback", 150, lr="x0.5")))
    assert plain_loop.train(tmp_path, 300, lambda: hand.log) == "finished"
    again = hand.points[210:]
    assert [step for step, _ in again] == list(range(151, 301))
    assert max(loss for _, loss in again) < 20
    receipt = read_receipt(tmp_path / "control", 1)
    assert receipt is not None
    assert (receipt.status, receipt.checkpoint, receipt.checkpoint_step) == ("done", "00-00000150", 150)
    trainer = read_json(tmp_path / "control" / "trainer.json") or {}
    assert (trainer["outcome"], trainer["attempt"]) == ("finished", 1)
    assert trainer["parameters"]["lr"]["value"] == 0.25


def test_the_example_refuses_a_damaged_checkpoint(tmp_path: Path, doorbell: None) -> None:
    """What it writes the catalogue verifies; what has been changed is neither verified nor gone back to."""
    asked = letter(1, "checkpoint"), letter(2, "rollback", 100), letter(3, "terminate")
    hand = Hand(tmp_path, *zip((120, 180, 190), asked, strict=True))
    damaged = tmp_path / "checkpoints" / "00-00000100" / "state.json"

    def log(tag: str, value: float, step: int) -> None:
        if step == 150:
            damaged.write_bytes(damaged.read_bytes().replace(b"100", b"101"))
        hand.log(tag, value, step)

    assert plain_loop.train(tmp_path, 500, lambda: log) == "terminated"
    found = {c.step: c.verified for c in Catalogue(tmp_path / "checkpoints").list()}
    assert found == {0: True, 50: True, 100: False, 120: True, 150: True, 190: True}
    receipts = [read_receipt(tmp_path / "control", number) for number in (1, 2, 3)]
    assert [r.status for r in receipts if r is not None] == ["done", "refused", "done"]


@pytest.mark.slow
def test_the_line_that_the_page_shows_saves_the_example(tmp_path: Path) -> None:
    """The command of docs/guard.md, with real processes, rules and signals: the job is started, and saved."""
    run = tmp_path / "runs" / "plain"
    command = [
        sys.executable,
        "-m",
        "sentinel",
        "run",
        "--act",
        "--state",
        str(tmp_path / "state"),
        str(run.parent),
    ]
    command += ["--", sys.executable, "-m", "examples.plain_loop", str(run)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    receipt = read_receipt(run / "control", 1)
    assert receipt is not None
    assert receipt.status == "done", ended.stderr
    trainer = read_json(run / "control" / "trainer.json") or {}
    assert (trainer["outcome"], trainer["parameters"]["lr"]["value"]) == ("finished", 0.25)
    assert "resolved" in ended.stderr
