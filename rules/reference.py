"""The tables of the rule language's reference, made from what they describe: they cannot fall behind it.

`python -m rules.reference < docs/rules.md` prints the page with its tables made anew.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from rules.describe import shipped
from rules.functions import FUNCTIONS, Function
from rules.schema import RuleSpec

_BLOCK = re.compile(r"(<!-- table: (?P<name>[\w/]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(page: str) -> str:
    """Return a page with everything between `<!-- table: NAME -->` and `<!-- end -->` made anew.

    NAME is `functions` or a pack's name.

    Raises:
        LookupError: there is no such table.
    """
    return _BLOCK.sub(lambda found: f"{found[1]}\n{table(found['name'])}\n{found[3]}", page)


def table(name: str) -> str:
    """Return one table in Markdown, each line ended.

    Raises:
        LookupError: it is neither `functions` nor a pack.
    """
    rows = _functions() if name == "functions" else _rules(name)
    return "".join(f"{row}\n" for row in rows)


def _functions() -> Iterator[str]:
    yield "| function | gives | meaning (W: the window) | UNKNOWN when |"
    yield "|---|---|---|---|"
    for row in FUNCTIONS.values():
        gives = "number" if row.returns == "num" else "condition"
        yield _row(f"`{row.signature}`", gives, f"{row.meaning}{_coverage(row)}", row.unknown)


def _coverage(row: Function) -> str:
    return "; judged between points too" if row.timed else ""


def _rules(pack: str) -> Iterator[str]:
    yield "| rule | fires when | severity, ladder | why | what to try |"
    yield "|---|---|---|---|---|"
    rules, off = shipped([pack])
    for rule in rules.rules:
        name = f"`{rule.name}`" + (" (off)" if rule.name in off else "")
        yield _row(name, _when(rule), f"{rule.severity}, {rule.ladder or 'notify'}", rule.why, rule.try_)


def _when(rule: RuleSpec) -> str:
    parts = [f"`{' '.join(rule.expr.split())}`"]
    if rule.let:
        parts.append("with " + ", ".join(f"`{name}` = `{text}`" for name, text in rule.let.items()))
    if rule.each:
        parts.append(f"for each `{rule.each}`")
    if rule.for_.amount > 0:
        parts.append(f"for {rule.for_}")
    if rule.clear:
        parts.append(f"until `{rule.clear}`")
    return "; ".join(parts)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    sys.stdout.write(fill(sys.stdin.read()))
