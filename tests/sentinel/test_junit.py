"""What is written as JUnit XML is what CI servers read: its shape is that of Jenkins' junit-10 schema."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from rules.scenario import load
from rules.source import Problem
from sentinel.junit import legal, problems_xml, results_xml
from sentinel.scenarios import Result, Test, Told, run_test

SHAPE: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": (set(), {"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors"},
        {"time", "skipped", "timestamp", "hostname", "id", "package", "file", "log", "url", "group"},
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "testcase": ({"name"}, {"time", "classname", "group"}, {"skipped", "error", "failure", "system-out"}),
    "failure": (set(), {"type", "message"}, set()),
    "error": (set(), {"type", "message"}, set()),
}
"""Of each element: attributes that it must have, those it may have besides, and what may stand in it."""


def check(document: str) -> ElementTree.Element:
    """Read a document and hold it against the schema; return its root."""
    root = ElementTree.fromstring(document)  # noqa: S314  our own document
    assert root.tag == "testsuites"
    for element in root.iter():
        must, may, inside = SHAPE[element.tag]
        assert must <= set(element.attrib) <= must | may, element.tag
        assert {child.tag for child in element} <= inside, element.tag
        if "time" in element.attrib:
            assert re.fullmatch(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?", element.attrib["time"])
    for suite in root:
        cases = list(suite)
        assert int(suite.attrib["tests"]) == len(cases)
        for kind in ("failure", "error"):
            assert int(suite.attrib[f"{kind}s"]) == sum(case.find(kind) is not None for case in cases)
    for count in ("tests", "failures", "errors"):
        assert int(root.attrib[count]) == sum(int(suite.attrib[count]) for suite in root)
    return root


def case(name: str, summary: str = "") -> Result:
    """Run a case of two expectations, neither of which is met."""
    text = f"""
        [[rule]]
        name = "high"
        expr = "m['q'] > 50"
        summary = {summary!r}
        [[test]]
        name = "NAME"
        series = {{ q = "60" }}
        [[test.expect]]
        rule = "high"
        never = true
        value = 61
    """
    scenario = load(text, "some/where/t.toml", str)
    test = scenario.cases[0].model_copy(update={"name": name})
    found = Test(
        "some/where/t.toml", type(scenario)(scenario.document, scenario.rules, scenario.program, (test,)), 0
    )
    return run_test(found, iter((1.0, 3.5)).__next__)


def describe(result: Result, told: Told) -> str:
    return f"{told.where}\n{told.sentence()}"


def test_a_failure_is_in_its_case_in_its_suite() -> None:
    """With the time it took and each thing that failed."""
    root = check(results_xml([case("one"), case("two")], describe))
    (suite,) = root
    assert (suite.attrib["name"], suite.attrib["tests"], suite.attrib["failures"]) == (
        "some/where/t.toml",
        "2",
        "2",
    )
    first = suite[0]
    assert first.attrib == {"name": "one", "classname": "some.where.t", "time": "2.500"}
    assert [failure.tag for failure in first] == ["failure", "failure"]
    assert first[0].attrib["message"].startswith("high: expected never to fire")
    assert (first[0].text or "").startswith("some/where/t.toml:11:9\nhigh: expected")


def test_a_passed_case_has_no_failure() -> None:
    """And an empty run is a document too."""
    passed = case("one")
    passed.failures.clear()
    root = check(results_xml([passed], describe))
    assert list(root[0][0]) == []
    assert len(check(results_xml([], describe))) == 0


def test_what_kept_the_tests_from_running_is_an_error() -> None:
    """A report of yesterday must not stay there as if it were today's."""
    problems = [
        Problem("a.toml:1:2", "no rule 'x'", "did you mean 'y'?"),
        Problem("b.toml", "this is not TOML"),
    ]
    root = check(problems_xml(problems))
    assert [suite.attrib["name"] for suite in root] == ["a.toml", "b.toml"]
    assert "did you mean 'y'?" in (root[0][0][0].text or "")


@given(st.text(max_size=30), st.text(alphabet=st.characters(), max_size=30))
def test_any_text_makes_a_document(name: str, told: str) -> None:
    """Control characters and half pairs of surrogates are written out, since XML cannot hold them."""
    result = case("x")
    scenario = result.test.scenario
    named = scenario.cases[0].model_copy(update={"name": name})
    test = Test(told, type(scenario)(scenario.document, scenario.rules, scenario.program, (named,)), 0)
    check(results_xml([Result(test, 0.0, result.failures)], lambda *_: told))


def test_control_characters_are_shown_and_not_lost() -> None:
    """Whoever reads the report sees what was there."""
    assert legal("a\x1b[31mb\x00\ud800\tc") == "a\\x1b[31mb\\x00\\ud800\tc"
