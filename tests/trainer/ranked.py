"""One of two ranks, for test_ranks.py to ask things of.

torchrun --nproc-per-node 2 -m tests.trainer.ranked tell FOLDER     experiments; each rank writes what it saw
torchrun --nproc-per-node 2 -m tests.trainer.ranked die FOLDER      rank 1 is killed in its 50th step
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer import checkpoint as checkpoints
from trainer import config, envs
from trainer.driving.env import DrivingEnv
from trainer.driving.isolated import Isolated
from trainer.loop import Trainer
from trainer.ranks import Alone, joined
from trainer.td3 import TD3, Batch, Hyperparameters, Shape
from trainer.training_state import RanksDifferError

SMALL: dict[str, Any] = {
    "preset": "incident",
    "npcs": 2,
    "start_timesteps": 30,
    "max_timesteps": 80,
    "batch_size": 16,
    "hidden": 16,
    "feature_dim": 8,
    "log_interval": 10,
    "eval_freq": 0,
    "checkpoint_interval": 20,
}


class Ranked(Trainer):
    """A trainer of which rank 0 is sent letters at given steps, and all ranks remember where they were."""

    def __init__(
        self, run: Path, ranks: Alone, letters: Mapping[int, dict[str, Any]] | None = None, **more: Any
    ) -> None:
        self.letters = dict(letters or {})
        self.sent = 0
        self.path: list[int] = []
        self.said: list[str] = []
        values = SMALL | {"logdir": str(run)} | more
        super().__init__(config.build(values), say=self.said.append, ranks=ranks)

    def _obey(self) -> bool:
        if self.letters and self.step >= min(self.letters):
            letter = self.letters.pop(min(self.letters))
            if self.ranks.number == 0:
                self.send(letter)
        moved = super()._obey()
        self.path.append(self.step)
        return moved

    def send(self, letter: dict[str, Any]) -> None:
        self.sent += 1
        now = time.time()
        content = {"id": self.sent, "to_checkpoint": None, "to_step": None, "set": {}, "reinit": []}
        content |= {"if_attempt": None, "issued_at": now, "expires_at": now + 60, "reason": "test"}
        folder = self.run_dir / "control" / "commands"
        (folder / ".letter").write_text(json.dumps(content | letter), encoding="utf-8")
        (folder / ".letter").rename(folder / f"{self.sent:06d}.json")
        signal.raise_signal(signal.SIGUSR2)

    def ended(self) -> dict[str, Any]:
        """Where it has been and what it is."""
        return {
            "path": self.path,
            "agent": checkpoints.digest(self.agent.state_dict()),
            "replay": checkpoints.digest(self.replay.state_dict()),
            "parameters": vars(self.agent.parameters),
            "drawable": int(self.replay.rows["drawable"].sum()),
            "skipped": self.replay.skipped,
            "step": self.step,
        }


class Killed(Ranked):
    """Rank 1 dies as it would on a lost machine."""

    def _explore(self) -> Any:
        if self.step == 50 and self.ranks.number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._explore()


class Simulated(Ranked):
    """Each rank has a simulator; rank 1's dies in its 20th step, rank 0's in its 45th."""

    def _make_env(self) -> envs.Env:
        def arguments(number: int) -> dict[str, Any]:
            return {"dies_at": (45, 20)[self.ranks.number] if number == 0 else 0}

        return DrivingEnv(Isolated("tests.trainer.worlds:Opaque", arguments, dt=0.1, patience=0.0), "state")


def one_update(ranks: Alone) -> dict[str, float]:
    """How far two updates of half a batch each are from those of the whole batch in one process."""
    shape = Shape(vector_dim=5, action_dim=2, hidden=32, encoder="mlp", feature_dim=8, shared_encoder=False)
    parameters = Hyperparameters(policy_noise=0.0, actor_clip=0.01, critic_clip=0.1)
    torch.manual_seed(0)
    cpu = torch.device("cpu")
    lone = TD3(shape, parameters, cpu)
    shared = TD3(shape, parameters, cpu, average=ranks.average)
    shared.load_state_dict(lone.state_dict())

    def batch(rows: slice) -> Batch:
        generator = torch.Generator().manual_seed(1)
        first, second, rest = (torch.randn(16, width, generator=generator) for width in (5, 5, 4))
        return Batch({"vector": first[rows]}, rest[rows, :2], rest[rows, 2:3], {"vector": second[rows]},
                     (rest[rows, 3:] > 0).float())  # fmt: skip

    half = slice(8 * ranks.number, 8 * ranks.number + 8)
    before = [tensor.clone() for tensor in lone.tensors()]
    for _ in range(2):  # the second one teaches the actor too
        lone.update(batch(slice(16)))
        shared.update(batch(half))
    pairs = zip(lone.tensors(), shared.tensors(), before, strict=True)
    gaps = [(float((a - b).abs().max()), float((a - was).abs().max())) for a, b, was in pairs]
    return {"gap": max(gap for gap, _ in gaps), "moved": max(moved for _, moved in gaps)}


def different(run: Path, ranks: Alone) -> str:
    """What is said when a rank's weights have gone their own way."""
    trainer = Ranked(run, ranks, max_timesteps=40)
    if ranks.number == 1:
        trainer.agent.tensors()[0][0] += 1e-7
    try:
        trainer.run()
    except RanksDifferError as error:
        return str(error)
    return "nothing"


def full_disk(run: Path, ranks: Alone) -> dict[str, Any]:
    """Rank 1 cannot write its rows, at step 40 alone."""
    trainer = Ranked(run, ranks, max_timesteps=60)
    save = trainer.journal.save

    def full(*arguments: Any) -> Any:
        if trainer.step == 40 and ranks.number == 1:
            raise OSError(28, "No space left on device")
        return save(*arguments)

    trainer.journal.save = full  # type: ignore[method-assign]  # a disk that is full
    trainer.run()
    return trainer.ended()


LETTERS = {
    46: {"verb": "rollback", "to_checkpoint": "00-00000040"},  # then the same steps again
    67: {"verb": "rollback", "to_checkpoint": "00-00000020", "set": {"skip_replay": 8, "tau": 0.1}},
    70: {"verb": "rollback", "to_checkpoint": "02-00000060", "reinit": ["actor"]},
    74: {"verb": "rollback", "to_checkpoint": "nowhere"},
    76: {"verb": "terminate"},
}


def tell(folder: Path, ranks: Alone) -> None:
    """Every experiment, one after the other."""
    found: dict[str, Any] = {"update": one_update(ranks)}
    plain = Ranked(folder / "plain", ranks, eval_freq=30, eval_episodes=1)
    plain.run()
    found["plain"] = plain.ended()
    obeying = Ranked(folder / "obeying", ranks, LETTERS)
    obeying.run()
    found["obeying"] = obeying.ended()
    evaluating = Ranked(
        folder / "evaluating",
        ranks,
        {30: {"verb": "checkpoint"}, 41: {"verb": "terminate"}},
        eval_freq=30,
        eval_episodes=1,
        max_timesteps=60,
    )
    evaluating.run()
    found["evaluating"] = evaluating.ended()
    simulated = Simulated(folder / "simulated", ranks, max_timesteps=60)
    simulated.run()
    assert simulated.simulator is not None
    found["simulated"] = simulated.ended() | {"faults": simulated.simulator.faults}
    found["full_disk"] = full_disk(folder / "full", ranks)
    found["different"] = different(folder / "different", ranks)
    (folder / f"rank{ranks.number}.json").write_text(json.dumps(found), encoding="utf-8")


def main() -> None:
    folder, ranks = Path(sys.argv[2]), joined()
    np.seterr(all="raise")
    if sys.argv[1] == "die":
        Killed(folder, ranks).run()
        return
    tell(folder, ranks)
    ranks.leave()


if __name__ == "__main__":
    main()
