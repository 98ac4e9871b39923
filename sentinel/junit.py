"""Results of `sentinel test` as JUnit XML, which Jenkins, GitLab and most other CI servers read.

Nobody owns that format; this keeps to what Jenkins' xunit plugin checks (its junit-10.xsd), which is the
narrowest of the schemas in use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from xml.etree import ElementTree

from notifier.format import neutral
from rules.source import Problem
from sentinel.errors import ConfigError
from sentinel.scenarios import Result, Told

_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, not even escaped."""


def results_xml(results: Sequence[Result], describe: Callable[[Result, Told], str]) -> str:
    """Return an XML document: a suite for each file, a case for each test.

    Args:
        results: in the order of their files. describe: the text of a failure, of several lines.
    """
    suites = []
    for file, group in groupby(results, key=lambda result: result.test.file):
        cases = list(group)
        suite = _suite(file, len(cases), sum(bool(each.failures) for each in cases), 0)
        suite.set("time", _seconds(sum(each.seconds for each in cases)))
        for result in cases:
            case = _case(suite, file, result.test.case.name, result.seconds)
            for told in result.failures:
                _outcome(case, "failure", told.sentence(), describe(result, told))
        suites.append(suite)
    return _document(suites)


def problems_xml(problems: Sequence[Problem]) -> str:
    """Return an XML document in which every problem that kept the tests from being run is an error."""
    suites = []
    for file, group in groupby(problems, key=lambda problem: re.sub(r":\d+:\d+$", "", problem.where)):
        found = list(group)
        suite = _suite(file, len(found), 0, len(found))
        suite.set("time", _seconds(0))
        for problem in found:
            case = _case(suite, file, problem.where, 0)
            _outcome(case, "error", problem.what, problem.render())
        suites.append(suite)
    return _document(suites)


def write(path: Path, document: str) -> None:
    """Write a document.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; the tests' results were not written there") from error


def _document(suites: Sequence[ElementTree.Element]) -> str:
    root = ElementTree.Element("testsuites", name="sentinel test")
    for key in ("tests", "failures", "errors"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in suites)))
    root.set("time", _seconds(sum(float(suite.get("time", "0")) for suite in suites)))
    root.extend(suites)
    ElementTree.indent(root)
    text: str = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _suite(file: str, tests: int, failures: int, errors: int) -> ElementTree.Element:
    counts = {"tests": tests, "failures": failures, "errors": errors, "skipped": 0}
    return ElementTree.Element(
        "testsuite", {"name": legal(file), **{key: str(count) for key, count in counts.items()}}
    )


def _case(suite: ElementTree.Element, file: str, name: str, seconds: float) -> ElementTree.Element:
    classname = legal(re.sub(r"[/\\]", ".", file.removesuffix(".toml")).strip("."))
    return ElementTree.SubElement(
        suite, "testcase", name=legal(name), classname=classname, time=_seconds(seconds)
    )


def _outcome(case: ElementTree.Element, kind: str, message: str, text: str) -> None:
    found = ElementTree.SubElement(case, kind, message=legal(message), type=kind)
    found.text = legal(text)


def legal(text: str) -> str:
    """Return a text with what XML cannot hold written as `\\x1b`, `\\ud800` and the like, and so with what
    would act on whoever shows it.
    """
    shown = "\t".join(neutral(part, lines=True) for part in text.split("\t"))
    return _ILLEGAL.sub(lambda found: ascii(found[0])[1:-1], shown)


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}"
