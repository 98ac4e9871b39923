"""Write `tag step value` lines from the standard input into an event file: numbers of a job in any language.

… | python log_scalars.py RUN
"""

from __future__ import annotations

import sys
import time

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.event_file_writer import EventFileWriter


def main(run: str) -> None:
    """Log until the input ends."""
    writer = EventFileWriter(run)
    for line in sys.stdin:
        tag, step, value = line.split()
        event = Event(wall_time=time.time(), step=int(step))
        event.summary.value.add(tag=tag, simple_value=float(value))
        writer.add_event(event)
        writer.flush()  # or the sentinel sees it minutes later
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1])
