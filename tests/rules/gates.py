"""Gates and runs for tests, written in a few characters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from rules.compile import Compiled
from rules.evaluate import Program, compile_rules
from rules.gate import Ending, GateWatch, Outcome, compile_gates
from rules.merge import RuleSet, build, merge
from rules.series import Sample
from rules.source import Problem, RuleErrors, parse
from rules.watch import RunWatch

METRICS = 'metrics = { q = ["q"], loss = ["loss"], reward = ["reward"], lazy = ["lazy"] }\n'
RULE = '[[rule]]\nname = "high"\nexpr = "q > 50"\nseverity = "critical"\n'

NOTHING = Program(Compiled(()))


def rules(text: str) -> RuleSet:
    """A rule file with gates, merged."""
    return build([("", parse(METRICS + text, "f.toml"))])


def problems(text: str, *packs: tuple[str, str]) -> list[Problem]:
    """Every problem of a rule file with gates; `packs` are (name, text)."""
    documents = [(name, parse(body, f"pack:{name}")) for name, body in packs]
    merged, found = merge([*documents, ("", parse(METRICS + text, "f.toml"))])
    try:
        compile_gates(merged)
    except RuleErrors as error:
        found += error.problems
    return found


def run(values: Sequence[float], tag: str = "q", every: int = 100, begin: int = 0) -> list[Sample]:
    """A series: one point every `every` steps and ten seconds, the first at `begin`."""
    return [(tag, begin + every * n, 10.0 * n, value) for n, value in enumerate(values)]


def together(*series: Sequence[Sample]) -> list[Sample]:
    """Several series as one stream, in order of wall time."""
    return sorted((sample for each in series for sample in each), key=lambda sample: sample[2])


def judged(
    text: str,
    samples: Sequence[Sample],
    *,
    ending: Ending = "unknown",
    ended_step: int | None = None,
    chunks: Sequence[int] = (),
) -> dict[str, Outcome]:
    """How the gates of a rule file stand at the end of a run that is read in pieces, cut at `chunks`."""
    merged = rules(text)
    program = compile_rules(merged) if merged.rules else NOTHING
    watch = RunWatch(program, merged.ladders)
    gates = GateWatch(compile_gates(merged))
    cuts = [0, *sorted(chunks), len(samples)]
    for begin, end in pairwise(cuts):
        part = samples[begin:end]
        gates.feed(part)
        observations = watch.observe(part)
        for seen in observations:
            if seen.transition is not None and seen.transition.after.value == "firing":
                gates.fired(seen.rule, seen.transition)
    for seen in watch.flush():
        if seen.transition is not None and seen.transition.after.value == "firing":
            gates.fired(seen.rule, seen.transition)
    gates.end(ended_step)
    return {outcome.gate.name: outcome for outcome in gates.outcomes(ending)}
