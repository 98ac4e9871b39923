"""The sentinel's hand in a test of an adapter: letters as the sentinel writes them, and what came of them.

A training loop runs in the test's own process and thread, so the letters are written from a callback of the
library under test: `Script.at(step, ...)` writes one when the loop gets there, and rings the bell.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sentinel.checkpoints import Catalogue, Checkpoint
from sentinel.control import Letter, Receipt, read_receipt, write_letter


@dataclass
class Script:
    """What is asked of a run, and when.

    Attributes:
        run: the run's folder. orders: (step, fields of the letter), in order.
    """

    run: Path
    orders: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    sent: int = 0

    @property
    def control(self) -> Path:
        return self.run / "control"

    def at(self, step: int, verb: str, **fields: Any) -> Script:
        """Ask for `verb` once the loop has come to `step`."""
        self.orders.append((step, {"verb": verb, **fields}))
        return self

    def tell(self, step: int) -> None:
        """Called by the loop: send what is due, one letter at a time, each after the last has its outcome."""
        last = self.receipt(self.sent) if self.sent else None
        if self.sent and (last is None or last.status == "accepted"):
            return
        if self.sent < len(self.orders) and step >= self.orders[self.sent][0]:
            self.send(**self.orders[self.sent][1])

    def send(self, **fields: Any) -> None:
        """Write the next letter and ring."""
        self.sent += 1
        now = time.time()
        present = {"if_attempt": self.trainer()["attempt"], "issued_at": now, "expires_at": now + 60}
        write_letter(self.control, Letter(id=self.sent, **{**present, **fields}))
        pid = self.trainer()["pid"]
        mask = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        assert mask is not None
        assert int(mask[1], 16) >> (signal.SIGUSR2 - 1) & 1, "without a handler the bell would kill"
        os.kill(pid, signal.SIGUSR2)

    def receipt(self, number: int) -> Receipt | None:
        return read_receipt(self.control, number)

    def done(self, number: int) -> Receipt:
        """The receipt of a command that was carried out."""
        receipt = self.receipt(number)
        assert receipt is not None, f"command {number} was never answered"
        assert receipt.status == "done", receipt
        return receipt

    def trainer(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.control / "trainer.json").read_bytes())
        return content

    def beat(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.control / "heartbeat.json").read_bytes())
        return content

    def checkpoints(self) -> dict[str, Checkpoint]:
        """What the sentinel would find, by name; every one verified as the sentinel verifies."""
        return {c.name: c for c in Catalogue(Path(self.run / self.trainer()["checkpoints"])).list()}
