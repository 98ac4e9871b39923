"""A training job whose disk may fill up under it, and which trains on; what it cannot save it says it cannot.

    python -m tests.e2e.full_job RUN_DIR

Each step is a line on standard output, which is no file of the run. Its event file is written without a
thread: what the disk does not take is kept and written with the next point.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

from sentinel.guard import Command
from tests.e2e.job import Job
from tests.e2e.lockstep import File


class FullJob(Job):
    """Trains on whatever the disk says."""

    def log(self, value: float) -> None:
        """Write one point, now or later."""
        with contextlib.suppress(OSError):
            super().log(value)

    def obey(self, command: Command) -> None:
        """Carry out a command, or say why that is impossible."""
        try:
            name = self.save()
        except OSError as error:
            self.guard.acknowledge(
                command, "failed", step=self.step, reason=f"no checkpoint: {error.strerror}"
            )
            return
        self.guard.acknowledge(command, "done", step=self.step, checkpoint=name, checkpoint_step=self.step)


def main() -> None:
    """Train until killed."""
    job = FullJob(Path(sys.argv[1]), None, 1_000_000, lambda folder: File(folder, 0, time.time()))
    while True:
        job.train()
        print(f"step {job.step}", flush=True)
        time.sleep(0.05)


if __name__ == "__main__":
    main()
