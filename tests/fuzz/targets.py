"""One function for each thing that reads what others wrote: any bytes go in, it raises where we are wrong.

Each says what may come of bytes that mean nothing (a list of faults, damage that is told) and asserts the
rest: no other exception, no answer that contradicts itself, no more memory than stated.
"""

from __future__ import annotations

import math
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from rules.evaluate import Program, compile_rules
from rules.expr import Scope, parse
from rules.generators import generate
from rules.merge import merge
from rules.notation import expand
from rules.series import Sample
from rules.source import Document, RuleErrors
from rules.source import parse as parse_toml
from rules.template import faults as template_faults
from rules.template import names as template_names
from rules.template import render
from rules.written import written
from sentinel.control import read_json
from sentinel.events import EventFile
from sentinel.records import Corrupt, Record, Truncated, read_record, resynchronise

MOST_MEMORY = 24 << 20
"""Bytes that reading a small file may take at its peak, whatever the file says of its own lengths."""

SCOPE = Scope(
    metrics={"a": None, "b": None}, params={"k": 2.0}, lets={"l": "a + 1"}, each=True, captures=("c",)
)

POINTS: tuple[Sample, ...] = tuple(
    (tag, step, 10.0 * n, value)
    for n, (step, value) in enumerate(
        [(1, 1.0), (2, 1e300), (2, math.nan), (1, -math.inf), (9, 0.0), (10, -3.5)]
    )
    for tag in ("a", "b")
)
"""Steps that go back, a value beyond reason, NaN, infinity."""


def expression(data: bytes) -> None:
    """Any text is a tree or a list of faults; a tree can be written, read back and evaluated."""
    text = data.decode("utf-8", "replace")
    tree, faults = parse(text, SCOPE, "bool")
    for fault in faults:
        assert fault.span is None or 0 <= fault.span[0] <= fault.span[1], fault
    if not faults and len(written(tree)) <= 2000:
        again, wrong = parse(written(tree), SCOPE, "bool")
        assert wrong or again == tree, (text, written(tree))


def rule(data: bytes) -> None:
    """Any text as a rule's expression is told as a problem, or evaluates over any points without failing."""
    document: dict[str, object] = {
        "metrics": {"a": "a", "b": "b"},
        "rule": [{"name": "fuzzed", "expr": data.decode("utf-8", "replace")}],
    }
    program = _compiled(document)
    if program is not None:
        evaluator = program.evaluator()
        evaluator.feed(POINTS)
        evaluator.flush()
        evaluator.timer(1e4)
        assert not evaluator.errors, evaluator.errors


def rule_file(data: bytes) -> None:
    """Any text as a rule file is a set of rules that can be run, or a list of problems."""
    try:
        document = parse_toml(data.decode("utf-8", "replace"), "fuzzed.toml")
        rules, problems = merge([("", document)])
        if not problems:
            _run(compile_rules(rules))
    except RuleErrors as error:
        problems = list(error.problems)
    for problem in problems:
        assert problem.render()


def notation(data: bytes) -> None:
    """Any text as a series is a list of numbers of bounded length, or a ValueError."""
    try:
        values = expand(data.decode("utf-8", "replace"))
    except ValueError:
        return
    assert all(value is None or isinstance(value, float) for value in values)


def generator(data: bytes) -> None:
    """Any text as a generator is series, or a ValueError."""
    try:
        generate(data.decode("utf-8", "replace"))
    except ValueError:
        return


def template(data: bytes) -> None:
    """Any text as a message is shown, whatever it names; it cannot reach into Python."""
    text = data.decode("utf-8", "replace")
    list(template_names(text))
    list(template_faults(text, {"a"}, {"run"}))
    shown = render(text, {"a": 1.5, "run": "r", "step": None})
    assert "object at 0x" not in shown


def records(data: bytes) -> None:
    """Any bytes are records, damage and a torn end, in order, to the last byte."""
    position = 0
    while position < len(data):
        found = read_record(data, position)
        if isinstance(found, Record):
            assert position < found.end <= len(data)
            position = found.end
        elif isinstance(found, Corrupt):
            at, valid = resynchronise(data, position + 1)
            assert position < at <= len(data)
            if not valid:
                return
            position = at
        else:
            assert isinstance(found, Truncated)
            return


def event_file(data: bytes) -> None:
    """Any file is read to its end, in bounded memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "events.out.tfevents.1")
        path.write_bytes(data)
        tracemalloc.start()
        try:
            file = EventFile(path)
            samples, offset = [], -1
            while offset != file.offset:
                offset = file.offset
                batch = file.read(1 << 16)
                samples += batch.samples
                assert batch.offset <= len(data)
                assert all(0 <= damage.offset <= len(data) for damage in batch.damage)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < MOST_MEMORY + 40 * len(data), f"{peak} bytes for a file of {len(data)}"
    for tag, step, wall, value in samples:
        assert isinstance(tag, str)
        assert isinstance(step, int)
        assert isinstance(wall, float)
        assert isinstance(value, float)


def control_file(data: bytes) -> None:
    """Any bytes in a control file are an object, or nothing."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trainer.json")
        path.write_bytes(data)
        found = read_json(path)
    assert found is None or isinstance(found, dict)


def _compiled(document: dict[str, object]) -> Program | None:
    rules, problems = merge([("", Document("fuzzed.toml", document))])
    if problems:
        return None
    try:
        return compile_rules(rules)
    except RuleErrors as error:
        for problem in error.problems:
            assert problem.render()
        return None


def _run(program: Program) -> None:
    evaluator = program.evaluator()
    evaluator.feed(POINTS)
    evaluator.flush()


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        expression, rule, rule_file, notation, generator, template, records, event_file, control_file,
    )
}  # fmt: skip
"""By name."""
