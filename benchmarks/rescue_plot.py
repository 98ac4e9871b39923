"""Draw what `benchmarks.rescue` found: a row a remedy, a line a seed; actor Q, episode length and return.

python -m benchmarks.rescue_plot docs/remedies.png --target 1200
"""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import matplotlib as mpl
from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks.rescue import EXPLODED, OUT, REMEDIES, Logged

EPISODES = 10
COLOURS = mpl.colormaps["viridis"]([0.0, 0.22, 0.45, 0.67, 0.87])


def smooth(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return running means over the last ten episodes."""
    return [
        (step, fmean(value for _, value in points[max(0, at + 1 - EPISODES) : at + 1]))
        for at, (step, _) in enumerate(points)
    ]


def draw(row: list[Axes], runs: list[Logged], since: int) -> None:
    """Draw the runs of one remedy into the three axes of its row."""
    for colour, run in zip(COLOURS, runs, strict=False):
        steps = sorted(step for step in run.actor_q if step >= since)
        row[0].plot(steps, [run.actor_q[step] for step in steps], color=colour, linewidth=1)
        for axes, place in ((row[1], 1), (row[2], 2)):
            points = smooth([(episode[0], episode[place]) for episode in run.episodes if episode[0] >= since])
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=1)
    row[0].axhline(EXPLODED, color="crimson", linewidth=0.8, linestyle=":")
    row[0].set_yscale("symlog", linthresh=10)
    row[0].set_ylim(-20, 30_000)
    row[0].set_yticks([0, 10, 1000])
    row[1].set_ylim(0, 310)
    row[2].set_ylim(-150, 1000)


def main() -> int:
    """Draw and write the picture."""
    parser = argparse.ArgumentParser(description="Draw what benchmarks.rescue found.")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--out", type=Path, default=OUT, help="where benchmarks.rescue kept its runs")
    parser.add_argument("--target", type=int, default=1200)
    parser.add_argument("--observation", default="state")
    asked = parser.parse_args()
    folder = asked.out / asked.observation
    rows = [("healthy preset, never ill", "healthy", 0)]
    rows += [(remedy.says, f"{remedy.name}-from-{asked.target}", asked.target) for remedy in REMEDIES]
    there = {name: sorted(folder.glob(f"s*-{name}.json")) for _, name, _ in rows}
    rows = [row for row in rows if there[row[1]]]
    figure, axes = pyplot.subplots(
        len(rows), 3, figsize=(9, 1.15 * len(rows) + 0.6), sharex=True, squeeze=False, layout="constrained"
    )
    for place, (says, name, since) in enumerate(rows):
        draw(list(axes[place]), [Logged.read(path) for path in there[name]], since)
        axes[place][0].set_title(says, loc="left", fontsize=8, fontweight="bold")
        for each in axes[place]:
            each.tick_params(labelsize=6)
            each.spines[["top", "right"]].set_visible(False)
    for column, what in enumerate(("actor Q, mean (dotted: 50)", "episode length", "return")):
        axes[-1][column].set_xlabel(f"step; {what}", fontsize=8)
    for above, below in pairwise(axes[:, 0]):
        below.sharey(above)
    asked.picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(asked.picture, dpi=110)
    print(asked.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
