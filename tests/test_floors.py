"""Who may import whom. A failure here is a design change: see docs/architecture.md."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STDLIB = frozenset(sys.stdlib_module_names)
IMPURE = {
    "asyncio",
    "multiprocessing",
    "os",
    "pathlib",
    "signal",
    "socket",
    "sqlite3",
    "subprocess",
    "threading",
    "time",
}

FLOORS = {
    "rules": (STDLIB - IMPURE) | {"rules"},
    "notifier": STDLIB | {"notifier"},
    "sentinel": STDLIB | {"sentinel", "rules", "notifier"},
    "trainer": STDLIB | {"trainer", "sentinel.guard", "sentinel.adapters.ddp", "torch", "numpy", "gymnasium"},
}
"""What any file of a package may import."""

ONE_LIBRARY_ONE_FILE = {
    "pydantic": {
        "rules/schema.py",
        "sentinel/channel_tables.py",
        "sentinel/config.py",
        "sentinel/json_schema.py",
    },
    "pydantic_core": {"rules/schema.py"},
    "tensorboard": {"sentinel/events.py", "trainer/metrics.py"},
    "google.protobuf": {"sentinel/events.py"},
    "torch.utils": {"trainer/metrics.py"},
    "google_crc32c": {"sentinel/records.py", "sentinel/events.py"},
    "watchdog": {"sentinel/wakeup.py"},
    "slack_sdk": {"notifier/slack.py", "notifier/slack_socket.py"},
    "apprise": {"notifier/apprise_.py"},
    "prometheus_client": {"sentinel/exposition.py"},
    "rich": {
        "notifier/console.py",
        "sentinel/comparison_report.py",
        "sentinel/doctor_report.py",
        "sentinel/explain.py",
        "sentinel/gate_report.py",
        "sentinel/question_table.py",
        "sentinel/report.py",
        "sentinel/rule_list.py",
        "sentinel/scenario_report.py",
        "sentinel/terminal.py",
        "trainer/film.py",
        "trainer/progress.py",
    },
    "matplotlib": {"notifier/picture.py"},
    "PIL": {
        "trainer/driving/dashboard.py",
        "trainer/driving/picture.py",
        "trainer/driving/scenery.py",
        "trainer/film.py",
    },
    "imageio_ffmpeg": {"trainer/film.py"},
    "ray": {"sentinel/backtest_ray.py", "trainer/crew.py"},
    "sqlite3": {"sentinel/journal.py"},
    "time": {"sentinel/clock.py", "sentinel/guard.py"},
    "carla": {"trainer/driving/carla_world.py"},
    "stable_baselines3": {"sentinel/adapters/sb3.py"},
    "transformers": {"sentinel/adapters/huggingface.py"},
    "lightning": {"sentinel/adapters/lightning.py"},
    "keras": {"sentinel/adapters/keras.py"},
    "torch": {"sentinel/adapters/ddp.py"},
}
"""Which files may know of a library; `time` and `torch` are the sentinel's rules, not the trainer's."""


def sources() -> list[Path]:
    return sorted(path for package in FLOORS for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted module) of every import in a file, also those inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the package's name"
            yield node.lineno, node.module or ""


def is_allowed(module: str, allowed: frozenset[str] | set[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in allowed)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_from_its_floor_and_below(path: Path) -> None:
    """The arrow points one way: trainer to guard, sentinel to rules and notifier, those to nothing."""
    name = path.relative_to(ROOT).as_posix()
    package = name.split("/", 1)[0]
    for line, module in imports(path):
        libraries = {lib for lib, files in ONE_LIBRARY_ONE_FILE.items() if name in files}
        assert is_allowed(module, FLOORS[package] | libraries), f"{name}:{line}: may not import {module}"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_library_is_known_to_one_file(path: Path) -> None:
    """A library that one file knows can be replaced in one file."""
    name = path.relative_to(ROOT).as_posix()
    for line, module in imports(path):
        for library, files in ONE_LIBRARY_ONE_FILE.items():
            if library in ("time", "torch") and not name.startswith("sentinel/"):
                continue
            if is_allowed(module, {library}):
                assert name in files, f"{name}:{line}: {library} belongs in {', '.join(sorted(files))}"


def test_the_guard_is_one_file_of_the_standard_library() -> None:
    """A foreign training job takes guard.py as it is."""
    for line, module in imports(ROOT / "sentinel" / "guard.py"):
        assert module.split(".")[0] in STDLIB, f"guard.py:{line}: {module} is not in the standard library"
