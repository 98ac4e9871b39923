"""Simulated weeks with random faults, seed after seed: `python -m tests.soak [--minutes N] [--seed N]`.

Each seed is a world of its own (see tests/soak/world.py), and ends with everything held against what must
be. A failure prints the seed, the simulated time and the last events; `--seed N` repeats it exactly.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.soak.resources import Resources
from tests.soak.world import Soak


def tell(seed: int, days: float, folder: Path | None, *, quiet: bool = False) -> Soak:
    """Tell one seed's story.

    Raises:
        BaseException: whatever was found, after the last events were printed.
    """
    with tempfile.TemporaryDirectory(prefix="soak-", dir=folder) as place:
        soak = Soak(seed, Path(place))
        try:
            with soak.installed():
                soak.live(days)
        except BaseException:
            if not quiet:
                print(f"\nseed {seed}, simulated day {soak.days:.4f}; the last events:", file=sys.stderr)
                print("\n".join(f"  {line}" for line in soak.story), file=sys.stderr)
                traceback.print_exc()
                print(f"again: python -m tests.soak --seed {seed} --days {days:g}", file=sys.stderr)
            raise
        soak.journal_bytes = sum(p.stat().st_size for p in soak.lives.state.glob("journal*"))
        return soak


def main() -> int:
    """Tell stories until the time is up; returns 1 as soon as one fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="real minutes; default: 60")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--first", type=int, default=1, help="the first seed; default: 1")
    parser.add_argument("--days", type=float, default=14.0, help="simulated days of each seed; default: 14")
    parser.add_argument(
        "--folder", type=Path, help="where files are written; default: /dev/shm if it is there"
    )
    options = parser.parse_args()
    memory = Path("/dev/shm")
    folder = options.folder or (memory if memory.is_dir() else None)
    began = time.monotonic()
    seed = options.first if options.seed is None else options.seed
    resources, total = Resources(), 0.0
    while True:
        at = time.monotonic()
        try:
            soak = tell(seed, options.days, folder)
            resources.look()
        except Exception as error:  # noqa: BLE001  told above, and whatever it is, it is a failure
            print(f"FAILED: {type(error).__name__}: {error}", file=sys.stderr)
            return 1
        total += soak.days
        same = f"{soak.compared['runs']} as replayed, {soak.compared['transitions']} transitions"
        faults = ", ".join(f"{n} {name}" for name, n in soak.faults.most_common())
        print(
            f"seed {seed}: {soak.days:.1f} days in {time.monotonic() - at:.0f} s, {soak.ticks} ticks, "
            f"{soak.runs} runs ({same}), {soak.lives.life} lives, "
            f"journal {soak.journal_bytes / 1e6:.1f} MB, {resources}; {faults}",
            flush=True,
        )
        seed += 1
        if options.seed is not None or time.monotonic() - began >= options.minutes * 60:
            print(
                f"{total:.0f} simulated days in {(time.monotonic() - began) / 60:.1f} minutes: nothing found"
            )
            return 0


if __name__ == "__main__":
    sys.exit(main())
