"""Fuzz one target, guided by coverage: `python -m tests.fuzz TARGET [--seconds N] [FOLDER …]`.

Needs atheris (`pip install atheris`), which is no part of the development set-up. A crash is written to
`crash-*` in the current folder; give that file's name as FOLDER to run it again.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Run until a crash, or for so many seconds."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "target", help="expression, rule, rule_file, notation, generator, template, records, …"
    )
    parser.add_argument("--seconds", type=int, default=60, help="default: 60; 0 for ever")
    parser.add_argument("corpus", nargs="*", help="folders of examples to begin with, or one crash to repeat")
    options = parser.parse_args()
    try:
        import atheris
    except ImportError:
        print("atheris is not installed: pip install atheris", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=["rules", "sentinel"]):
        from tests.fuzz.targets import TARGETS
    if options.target not in TARGETS:
        parser.error(f"no target {options.target!r}; there are {', '.join(TARGETS)}")
    limits = [
        f"-max_total_time={options.seconds}",
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for number, example in enumerate(examples(options.target)):
            Path(folder, str(number)).write_bytes(example)
        atheris.Setup([sys.argv[0], *limits, *(options.corpus or [folder])], TARGETS[options.target])
        atheris.Fuzz()
    return 0


def examples(target: str) -> Iterator[bytes]:
    """Yield real ones to begin with: shipped rules, shipped files, event files that other programs wrote."""
    packs = [path.read_bytes() for path in sorted((ROOT / "rules" / "packs").glob("*.toml"))]
    if target in ("expression", "rule"):
        yield from (
            found[1] for pack in packs for found in re.finditer(rb'^expr = "(.*)"$', pack, re.MULTILINE)
        )
    elif target == "rule_file":
        yield from packs
    elif target in ("records", "event_file"):
        yield from (path.read_bytes() for path in sorted((ROOT / "tests" / "data").glob("events.*")))
    elif target == "template":
        yield from (
            found[1] for pack in packs for found in re.finditer(rb'^summary = "(.*)"$', pack, re.MULTILINE)
        )
    elif target == "notation":
        yield b"1x3 50x8 _ nan -inf 2.5+1x7 _x3"
    elif target == "generator":
        yield b"cheetah(seed=3, n=20)"
    elif target == "control_file":
        yield b'{"pid": 1, "parameters": {"lr": {"kind": "number", "low": 0.1}}, "finished_at": null}'


if __name__ == "__main__":
    sys.exit(main())
