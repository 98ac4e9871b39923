"""A trainer that is killed at every n-th line of a save: `python -m tests.trainer.kill_in_save FOLDER N`.

A process of its own, because it forks: one child a kill, each on its own copy of the run's folder. Prints how
many children were killed; ends with an error where a checkpoint verifies and is not what was saved.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from trainer import checkpoint as checkpoints
from trainer import config
from trainer import replay as replays
from trainer.loop import Trainer

AT = 60
SMALL: dict[str, Any] = {"preset": "incident", "npcs": 0, "start_timesteps": 30, "max_timesteps": AT}
SMALL |= {"batch_size": 8, "hidden": 16, "feature_dim": 8, "eval_freq": 0, "checkpoint_interval": 20}
SAVING = {checkpoints.__file__, replays.__file__}
PURE = {"_pack", "parse_name", "name_of", "<genexpr>", "<dictcomp>", "<listcomp>"}
"""What runs there for thousands of lines and touches no disk."""


class Killed(Trainer):
    """Carries out the experiment in the place of its save of step AT."""

    kills = 0

    def _write(self, why: str) -> str:
        if self.step == AT and why == "interval":
            before = {name: self._digest(self.run_dir, name) for name in checkpoints.names(self._folder)}
            self._killed_at(sys.maxsize, why, before, None)
            now = self._digest(self.run_dir.parent / "copy", checkpoints.name_of(0, AT))
            while self._killed_at(self.kills * int(sys.argv[2]) + 1, why, before, now):
                self.kills += 1
        return super()._write(why)

    def _killed_at(self, line: int, why: str, before: dict[str, str], now: str | None) -> bool:
        """Save in a child that dies at a line; False when it came to the end of its save."""
        copy = self.run_dir.parent / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.run_dir, copy)
        generator = random.getstate()
        child = os.fork()
        if child == 0:
            random.setstate(generator)  # Python seeds it anew in a child
            self.run_dir, self.journal.folder = copy, copy / "replay"
            sys.settrace(die_at(line))
            super()._write(why)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        for name in checkpoints.names(copy / "checkpoints"):
            if not checkpoints.verify(copy / "checkpoints" / name):
                found = self._digest(copy, name)
                wanted = before.get(name, now)
                assert wanted in (found, None), f"killed at line {line}: {name} verifies and is wrong"
            else:
                assert name not in before, f"killed at line {line}: {name} was whole before"
        assert checkpoints.find(copy / "checkpoints", "latest")
        assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
        return os.WIFSIGNALED(status)

    def _digest(self, run: Path, name: str) -> str:
        """Digest of what a checkpoint holds; its replay's rows are read back from the segments too."""
        found = checkpoints.read(run / "checkpoints" / name)
        ring = replays.Replay(
            self.replay.capacity,
            vector_dim=self.agent.shape.vector_dim,
            action_dim=self.agent.shape.action_dim,
            rng=self.rng,
        )
        ring.load(found.state["replay"], found.segments, run / "replay")
        rows = self.replay.rows[: ring.written]
        assert rows.tobytes() == ring.rows[: ring.written].tobytes()
        return checkpoints.digest(found.state)


def die_at(line: int) -> Any:
    """Return a trace function that kills this process at the n-th line of the saving modules."""
    passed = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal passed
        if frame.f_code.co_filename not in SAVING or frame.f_code.co_name in PURE:
            return None
        if event == "line":
            passed += 1
            if passed == line:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


def main() -> int:
    """Run the experiment."""
    folder = Path(sys.argv[1])
    trainer = Killed(config.build(SMALL | {"logdir": str(folder / "run")}), say=lambda _: None)
    trainer.run()
    print(trainer.kills)
    return 0


if __name__ == "__main__":
    sys.exit(main())
