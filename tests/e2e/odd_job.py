"""A training job that takes commands badly, each in one way.

    python -m tests.e2e.odd_job RUN_DIR refuses|ignores|half|stuck|zombie

refuses: answers every command with a refusal. ignores: takes it and never says what became of it. half: ends
in the middle of carrying it out. stuck: is in one long call of C code, in which no Python handler runs.
It logs a loss that is far too high from its tenth step on.
"""

from __future__ import annotations

import sys
import time
import zlib
from pathlib import Path

from tensorboard.summary.writer.event_file_writer import EventFileWriter

from tests.e2e.job import Job


def main() -> None:
    """Train until killed."""
    job = Job(Path(sys.argv[1]), 10, 5, lambda folder: EventFileWriter(str(folder)))
    way = sys.argv[2]
    payload = bytes(900_000_000) if way == "stuck" else b""
    while True:
        job.step += 1
        job.guard.beat(job.step, "update")
        job.log(1.0 if job.step < 10 else 64.0)
        if job.step % job.every == 0:
            job.save()
        if way == "stuck" and job.step == 12:
            print("stuck", flush=True)
            for _ in range(8):
                zlib.crc32(payload)
            print("back", flush=True)
        command = job.guard.poll()
        if command is not None:
            print(f"{way} {command.verb}", flush=True)
            if way == "refuses":
                job.guard.acknowledge(command, "refused", step=job.step, reason="not today")
            elif way == "half":
                (job.folder / "checkpoints" / ".tmp-half").mkdir()
                raise SystemExit(3)
            elif way == "stuck":
                job.obey(command)
        time.sleep(0.05)


if __name__ == "__main__":
    main()
