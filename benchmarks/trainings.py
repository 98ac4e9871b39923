"""Trainings and sentinels as the processes they are, and what their event files say afterwards.

Shared by the benchmark over seeds and by the demo, so that both tell of the same thing in the same way.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from sentinel.discover import scan
from sentinel.tail import RunTail

ACTOR_Q = "debug/actor_q_mean"
LENGTH = "train/episode_length"
REWARD = "train/episode_reward"
LAST_EPISODES = 10


def start_trainer(run: Path, *flags: str, quiet: bool = True) -> subprocess.Popen[bytes]:
    """Start `python -m trainer --logdir RUN …` as a process of its own, on one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "trainer", "--logdir", str(run), *flags]
    output = subprocess.DEVNULL if quiet else None
    return subprocess.Popen(command, env=environment, stdout=output, stderr=output)


def start_sentinel(
    logdir: Path, state: Path, config: Path, *flags: str, log: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start `sentinel run LOGDIR` as a process of its own; what it says goes to `log`."""
    command = [
        sys.executable,
        "-m",
        "sentinel",
        "run",
        *flags,
        "-c",
        str(config),
        "--state",
        str(state),
        str(logdir),
    ]
    output = log.open("wb") if log is not None else subprocess.DEVNULL
    try:
        return subprocess.Popen(command, stdout=output, stderr=output)
    finally:
        if log is not None and not isinstance(output, int):
            output.close()


def stop(process: subprocess.Popen[bytes], seconds: float = 20.0) -> None:
    """End a process as a person would, by SIGTERM; by SIGKILL if it does not listen."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True, slots=True)
class Story:
    """What the event files of one run say.

    Attributes:
        actor_q: (step, mean actor Q), in the order logged, all attempts.
        lengths, rewards: (step, value) of the finished episodes.
        starts: of each attempt after the first: its first step, and how many points of actor Q and how many
            episodes precede it.
    """

    actor_q: list[tuple[int, float]]
    lengths: list[tuple[int, float]]
    rewards: list[tuple[int, float]]
    starts: list[tuple[int, int, int]]

    @property
    def worst_q(self) -> float:
        """The greatest mean actor Q ever logged."""
        return max((value for _, value in self.actor_q), default=float("nan"))

    @property
    def worst_q_since_rollback(self) -> float:
        """The greatest mean actor Q since the last attempt began; the whole run's if there was only one."""
        begin = self.starts[-1][1] if self.starts else 0
        return max((value for _, value in self.actor_q[begin:]), default=float("nan"))

    @property
    def last_length(self) -> float:
        """Mean length of the last ten episodes, in steps."""
        return _tail_mean(self.lengths)

    @property
    def last_reward(self) -> float:
        """Mean return of the last ten episodes."""
        return _tail_mean(self.rewards)

    def before_first_rollback(self) -> tuple[float, float, float] | None:
        """Actor Q, and length and return of the last ten episodes, just before the first rollback."""
        if not self.starts:
            return None
        _, points, episodes = self.starts[0]
        q = self.actor_q[points - 1][1] if points else float("nan")
        return q, _tail_mean(self.lengths[:episodes]), _tail_mean(self.rewards[:episodes])

    @property
    def last_step(self) -> int:
        """The last step logged."""
        return self.actor_q[-1][0] if self.actor_q else 0

    def first_above(self, limit: float) -> int | None:
        """The first step at which mean actor Q passed `limit`."""
        return next((step for step, value in self.actor_q if value > limit), None)


def _tail_mean(points: Sequence[tuple[int, float]]) -> float:
    return fmean([value for _, value in points[-LAST_EPISODES:]]) if points else float("nan")


def read_story(run: Path) -> Story:
    """Read a run's event files with the sentinel's own reader."""
    story = Story([], [], [], [])
    series = {ACTOR_Q: story.actor_q, LENGTH: story.lengths, REWARD: story.rewards}
    found = scan(run).get(".")
    if found is None:
        return story
    for chunks, _ in RunTail(run).to_the_end(found.event_files):
        for chunk in chunks:
            if chunk.start is not None and story.actor_q:
                story.starts.append((chunk.start.step, len(story.actor_q), len(story.lengths)))
            for tag, step, _, value in chunk.samples:
                if tag in series:
                    series[tag].append((step, value))
    return story
