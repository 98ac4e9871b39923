"""Scenario files as `sentinel test` and a user's CI run them: the rules' own tests. Nothing is watched.

Everything that is wrong with any file, what it includes and what it takes its points from, is told before
anything is run: a test that was not run has not passed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from rules import generators, scenario
from rules.case import Case
from rules.expectations import Failure, Seen, compare, count, listed
from rules.notation import seeds
from rules.scenario import Scenario
from rules.source import Problem, RuleErrors, nearest
from sentinel.cases import Course, courses, play, read_source
from sentinel.errors import ConfigError
from sentinel.tail import Chunk


@dataclass(frozen=True, slots=True)
class Test:
    """One case of one file, ready to be run.

    Attributes:
        file: the scenario file's name. scenario, number: it, and the case's place in it.
        recorded: the points of the case's source, if it has one.
    """

    __test__ = False  # it is not one of pytest's

    file: str
    scenario: Scenario
    number: int
    recorded: Sequence[Chunk] = ()

    @property
    def case(self) -> Case:
        """What is played, and what is expected."""
        return self.scenario.cases[self.number]

    @property
    def runs(self) -> int:
        """How many times it is played."""
        return 1 if self.case.seeds is None else len(seeds(self.case.seeds))

    def where(self, failure: Failure | None = None) -> str:
        """Return `file:line:column` of the case, or of the expectation that was not met."""
        return self.scenario.document.where(("test", self.number, *(failure.path if failure else ())))


@dataclass(frozen=True, slots=True)
class Told:
    """One failure of one test.

    Attributes:
        where: `file:line:column` of the expectation. failure: what did not come.
        runs: labels of the runs it is true of; empty where the case has one.
        course: the first of these runs; None for what was counted over all of them.
    """

    where: str
    failure: Failure
    runs: tuple[str, ...] = ()
    course: Course | None = None

    def sentence(self) -> str:
        """Return what failed, with the seeds it failed for."""
        return f"{listed(self.runs)}: {self.failure.what}" if self.runs else self.failure.what


@dataclass(slots=True)
class Result:
    """What came of one test; `seconds` is how long it took."""

    test: Test
    seconds: float = 0.0
    failures: list[Told] = field(default_factory=list)


# Loading


def load_tests(paths: Sequence[Path]) -> list[Test]:
    """Read every case of every file; folders stand for the `*.toml` in them.

    Raises:
        ConfigError: a file cannot be read, or there is none.
        RuleErrors: with every problem of every file, its includes and its sources.
    """
    problems: list[Problem] = []
    tests: list[Test] = []
    sources: dict[Path, Sequence[Chunk]] = {}
    for path in _files(paths):
        try:
            loaded = load_scenario(path)
        except RuleErrors as error:
            problems += error.problems
            continue
        for number, case in enumerate(loaded.cases):
            recorded, found = _recorded(case, path, sources)
            test = Test(str(path), loaded, number, recorded)
            places = loaded.document
            problems += [
                Problem(places.where(("test", number, key)), f"test {case.name!r}: {what}", hint)
                for key, what, hint in (*found, *_unknown_tags(test))
            ]
            tests.append(test)
    if problems:
        raise RuleErrors(problems)
    return tests


def load_scenario(path: Path) -> Scenario:
    """Read one file, and the rule files it includes from where it lies.

    Raises:
        ConfigError: it cannot be read. RuleErrors: with every problem of it.
    """
    return scenario.load(_text(path), str(path), lambda name: _included(path.parent / name))


_Fault = tuple[str, str, str]


def _recorded(
    case: Case, path: Path, sources: dict[Path, Sequence[Chunk]]
) -> tuple[Sequence[Chunk], list[_Fault]]:
    """Return the points of a case's source; each is read once, however many cases take their points there."""
    if case.source is None:
        return (), []
    place = path.parent / case.source
    try:
        if place not in sources:
            sources[place] = read_source(place)
    except ConfigError as error:
        there = [each.name for each in place.parent.iterdir()] if place.parent.is_dir() else []
        hint = "" if place.name in there else nearest(place.name, there)
        return (), [("source", str(error), hint)]
    return sources[place], []


def _unknown_tags(test: Test) -> Iterator[_Fault]:
    """A tag that is filtered or renamed and is not there would leave a rule without its data, unnoticed."""
    case = test.case
    if not (case.tags or case.rename) or (case.source is not None and not test.recorded):
        return
    tags = _tags(case, test.recorded)
    for pattern in case.tags:
        if not any(fnmatchcase(tag, pattern) for tag in tags):
            yield "tags", f"no tag {pattern!r} in what is taken", nearest(pattern, tags)
    for name in case.rename:
        if name not in tags:
            yield "rename", f"no tag {name!r} to rename", nearest(name, tags)


def _tags(case: Case, recorded: Iterable[Chunk]) -> set[str]:
    if case.gen is not None:
        family, setting = generators.read(case.gen)
        return set(generators.draw(family, setting).series)
    return {sample[0] for chunk in recorded for sample in chunk.samples}


def _files(paths: Sequence[Path]) -> list[Path]:
    found = [file for path in paths for file in (sorted(path.glob("*.toml")) if path.is_dir() else [path])]
    if not found:
        raise ConfigError(f"{', '.join(map(str, paths))}: no scenario file (*.toml); nothing was tested")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; nothing was tested") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; nothing was tested") from error


def _included(path: Path) -> str:
    """An included file that is not there is a problem of the file that includes it."""
    try:
        return _text(path)
    except ConfigError as error:
        raise LookupError(str(error)) from error


# Running


def run_test(test: Test, clock: Callable[[], float], each: Callable[[], None] = lambda: None) -> Result:
    """Run one case.

    Args:
        test: what. clock: seconds, for how long it took.
        each: is called after every run of it, of which there may be many.
    """
    begun = clock()
    case = test.case
    severities = {rule.spec.name: rule.spec.severity for rule in test.scenario.program.rules}
    runs: dict[str, Seen] = {}
    points = 0
    failed: dict[tuple[str | int, ...], list[tuple[Failure, Course]]] = {}
    for course in courses(case, test.recorded):
        played = play(test.scenario, case, course)
        runs[course.label] = played.seen
        points += course.points
        for failure in compare(case, played.seen, severities):
            failed.setdefault((*failure.path, failure.rule), []).append((failure, course))
        each()
    result = Result(test)
    for found in failed.values():
        first, course = found[0]
        labels = tuple(course.label for _, course in found if course.label)
        result.failures.append(Told(test.where(first), first, labels, course))
    for failure in count(case, runs, points, severities):
        result.failures.append(Told(test.where(failure), failure))
    result.seconds = clock() - begun
    return result


def failures(scenario: Scenario, number: int) -> list[str]:
    """Run one case that has no source; return what did not come as expected, a sentence each."""
    result = run_test(Test(scenario.document.file, scenario, number), float)
    return [told.sentence() for told in result.failures]
