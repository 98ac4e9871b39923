"""Be a user without rights; everything is imported first, for the interpreter may be out of reach then.

python -m tests.e2e.unprivileged sentinel|job ARGUMENT…
"""

from __future__ import annotations

import codecs
import encodings.idna
import os
import sys

import rich.console
import slack_sdk.web.client
import tensorboard.summary.writer.event_file_writer

import sentinel.gate_watch
import sentinel.reload
import sentinel.service
import sentinel.watcher
from sentinel.cli import main as sentinel_main
from sentinel.config import load
from tests.e2e import job

NOBODY = 65534
_NEEDED_LATER = (encodings.idna, rich.console, slack_sdk, tensorboard, sentinel)

if __name__ == "__main__":
    for encoding in ("ascii", "latin-1", "utf-8", "idna"):
        codecs.lookup(encoding)
    load(None)  # the packs, and whatever is imported when a file is read
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    who, sys.argv = sys.argv[1], sys.argv[1:]
    sys.exit(sentinel_main(sys.argv[1:]) if who == "sentinel" else job.main())
