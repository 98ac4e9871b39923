"""The guard in a job of several ranks: rank 0 reads commands, all ranks obey at the same step.

    sentinel run --act runs -- torchrun --nproc-per-node 2 -m examples.ddp_loop runs/ddp

Two ranks fit one line by DistributedDataParallel over gloo. From step 200 on the inputs of rank 1 are four
times as large, which a learning rate of 0.2 does not survive and half of it does: `generic/nonfinite_loss`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter

from sentinel.adapters import folder
from sentinel.adapters.ddp import RankedGuard
from sentinel.guard import Command, Parameter


class Job:
    """One rank of the job."""

    def __init__(self, run: Path, rate: float, resume: Path | None) -> None:
        self.run, self.step, self.first = run, 0, dist.get_rank() == 0
        torch.manual_seed(dist.get_rank())
        self.model = DistributedDataParallel(torch.nn.Linear(1, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=rate)
        self.guard = RankedGuard(run, parameters=[Parameter.number("lr", rate, low=0.0, high=1.0)])
        if resume is not None:
            self.load(torch.load(resume / "state.pt", weights_only=True), rate)
        self.log = SummaryWriter(str(run), purge_step=self.step + 1) if self.first else None

    def train(self, steps: int, pause: float) -> str:
        """Train to the end, obeying; return how it ended."""
        while self.step < steps:
            if self.step % 50 == 0:
                self.save()
            self.update()
            time.sleep(pause)
            self.guard.beat(self.step)
            command = self.guard.poll()  # None on all ranks, nearly always
            if command is None:
                continue
            if command.verb == "rollback":
                self.roll_back(command)
            else:
                name = self.save()
                self.guard.acknowledge(command, "done", checkpoint=name, checkpoint_step=self.step)
                if command.verb == "terminate":
                    return "terminated"
        return "finished"

    def update(self) -> None:
        """One step of least squares."""
        x = torch.randn(64, 1) * (4 if self.step >= 200 and not self.first else 1)
        loss = ((self.model(x) - 3 * x - 0.1 * torch.randn(64, 1)) ** 2).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.step += 1
        if self.log:
            self.log.add_scalar("train/loss", loss.item(), self.step)
            self.log.flush()

    def save(self) -> str:
        """Rank 0 writes; replicas are equal, so one file is the state of all of them. Returns its name."""
        name = ""
        if self.first:
            state = {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
            }
            checkpoints = self.run / "checkpoints"
            fill = lambda path: torch.save(state, path / "state.pt")  # noqa: E731 - one line, used once
            name = folder.write(checkpoints, self.step, self.guard.attempt, fill).path.name
        dist.barrier()
        return name

    def load(self, state: dict[str, Any], rate: Any) -> None:
        """Go on from a checkpoint, with this learning rate."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def roll_back(self, command: Command) -> None:
        """All ranks read the checkpoint, agree that they can, and only then change."""
        state: dict[str, Any] = {}
        problem = ""
        try:
            saved = folder.find(self.run / "checkpoints", command)
            state = torch.load(saved.path / "state.pt", weights_only=True)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, nothing has been changed yet
            problem = str(error)
        if problem := self.guard.agree(problem):
            self.guard.acknowledge(command, "refused", step=self.step, reason=problem)
            return
        self.load(state, command.set.get("lr", self.optimizer.param_groups[0]["lr"]))
        self.guard.set_value("lr", self.optimizer.param_groups[0]["lr"])
        if self.log:
            self.log.close()
            self.log = SummaryWriter(str(self.run), purge_step=self.step + 1)
        self.guard.beat(self.step, "start")
        self.guard.begin_attempt()
        name = saved.path.name
        self.guard.acknowledge(command, "done", step=self.step, checkpoint=name, checkpoint_step=saved.step)


def main() -> int:
    """Run one rank; torchrun starts them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--lr", type=float, default=0.2)
    parser.add_argument("--resume", type=Path, help="checkpoint to go on from")
    parser.add_argument("--pause", type=float, default=0.01, help="seconds a step (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    job = Job(options.run, options.lr, options.resume)
    outcome = job.train(options.steps, options.pause)
    weight, rate = job.model.module.weight.item(), job.optimizer.param_groups[0]["lr"]
    print(f"rank {dist.get_rank()}: {outcome} at step {job.step}, lr {rate:g}, weight {weight!r}", flush=True)
    job.guard.finish(outcome)
    dist.barrier()  # a rank that tears the group down while another still uses it may abort
    dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
