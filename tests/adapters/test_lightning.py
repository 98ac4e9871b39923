"""The Lightning callback with the real Trainer: registers, beats, saves, goes back, ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pl = pytest.importorskip("lightning.pytorch", reason="`make test-adapters` installs Lightning")

import torch  # noqa: E402 - after the skip
from lightning.pytorch.loggers import TensorBoardLogger  # noqa: E402

from sentinel.adapters.lightning import SentinelCallback  # noqa: E402
from tests.adapters.letters import Script  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore")
]  # Lightning warns of few workers, small datasets and the like


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGUSR2)
    yield
    signal.signal(signal.SIGUSR2, before)


class Line(pl.LightningModule):
    """y = w x."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        (x,) = batch
        loss = ((self.layer(x) - 3 * x) ** 2).mean()
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 100)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Watch(pl.Callback):
    """Sends what the script says; writes down rate and weight before each step."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.seen: list[tuple[int, float, float]] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.seen.append((trainer.global_step, rate, pl_module.layer.weight.item()))
        self.script.tell(trainer.global_step)


def job(folder: Path, script: Script, **options: Any) -> tuple[Any, Watch, SentinelCallback, Any]:
    """A Trainer over 80 equal-looking batches an epoch, checkpoints every 10 steps."""
    watch, sentinel = Watch(script), SentinelCallback(every=10)
    trainer = pl.Trainer(
        **{
            "max_steps": 40,
            "callbacks": [watch, sentinel],
            "logger": TensorBoardLogger(str(folder), name="", version="run"),
            "log_every_n_steps": 1,
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            **options,
        },
    )
    data = torch.utils.data.TensorDataset(torch.ones(640, 1))
    return trainer, watch, sentinel, torch.utils.data.DataLoader(data, batch_size=8)


def test_checkpoints_are_lightnings_own_and_verified(tmp_path: Path) -> None:
    """One at the start, one every ten steps, one asked for; any of them is a `ckpt_path`."""
    script = Script(tmp_path / "run").at(14, "checkpoint")
    trainer, _, sentinel, loader = job(tmp_path, script)
    sentinel.fit(trainer, Line(), loader)
    found = script.checkpoints()
    assert [c.step for c in found.values()] == [0, 10, 15, 25, 35]
    assert all(c.verified for c in found.values()), found
    asked = found[str(script.done(1).checkpoint)]
    assert {p.name for p in asked.path.iterdir()} == {"manifest.json", "epoch=0-step=15.ckpt"}
    assert (script.trainer()["outcome"], script.beat()["step"]) == ("finished", 40)
    assert script.trainer()["parameters"]["learning_rate"]["value"] == pytest.approx(0.01)


def test_a_rollback_fits_again_in_the_same_process_with_its_remedy(tmp_path: Path) -> None:
    """Weight, moments and schedule are the checkpoint's; the rate is a tenth of it; then on to the end."""
    script = Script(tmp_path / "run").at(26, "rollback", to_step=20, set={"learning_rate": "x0.1"})
    trainer, watch, sentinel, loader = job(tmp_path, script, max_epochs=-1, min_steps=35)
    sentinel.fit(trainer, Line(), loader)
    assert script.done(1).checkpoint_step == 20
    assert [step for step, _, _ in watch.seen] == [*range(27), *range(20, 40)]
    first, again = watch.seen[20], watch.seen[27]
    assert again[2] == first[2]
    assert again[1] == pytest.approx(first[1] * 0.1)
    assert watch.seen[-1][1] == pytest.approx(0.001 * (1 - 39 / 100))
    assert (trainer.global_step, script.trainer()["attempt"]) == (40, 1)
    assert script.trainer()["outcome"] == "finished"
    assert len(list((tmp_path / "run").glob("events.out.tfevents.*"))) == 2


def test_without_a_remedy_the_run_is_the_same_again(tmp_path: Path) -> None:
    """Weights, moments and schedule, step for step."""
    script = Script(tmp_path / "run").at(26, "rollback", to_step=20)
    trainer, watch, sentinel, loader = job(tmp_path, script)
    sentinel.fit(trainer, Line(), loader)
    assert watch.seen[27:34] == watch.seen[20:27]


def test_trainer_fit_itself_offers_no_rollback(tmp_path: Path) -> None:
    """Nobody would fit again."""
    script = Script(tmp_path / "run").at(25, "rollback", to_step=20)
    trainer, watch, _, loader = job(tmp_path, script)
    trainer.fit(Line(), loader)
    receipt = script.receipt(1)
    assert receipt is not None
    assert receipt.status == "refused"
    assert script.trainer()["verbs"] == ["checkpoint", "terminate"]
    assert len(watch.seen) == 40


def test_a_damaged_checkpoint_is_refused_and_training_goes_on(tmp_path: Path) -> None:
    """Seen before the loop is left."""
    script = Script(tmp_path / "run").at(25, "rollback", to_checkpoint="00-00000020")

    class Spoil(pl.Callback):
        def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 22:
                next((tmp_path / "run/checkpoints/00-00000020").glob("*.ckpt")).write_bytes(b"torn")

    trainer, watch, sentinel, loader = job(tmp_path, script)
    trainer.callbacks.append(Spoil())
    sentinel.fit(trainer, Line(), loader)
    receipt = script.receipt(1)
    assert receipt is not None
    assert (receipt.status, "other content" in receipt.reason) == ("refused", True)
    assert len(watch.seen) == 40


def test_terminate_saves_and_stops_lightnings_way(tmp_path: Path) -> None:
    """fit() returns after the batch, whatever min_steps says."""
    script = Script(tmp_path / "run").at(12, "terminate")
    trainer, _, sentinel, loader = job(tmp_path, script, min_steps=30)
    sentinel.fit(trainer, Line(), loader)
    assert trainer.global_step == 13
    assert script.done(1).checkpoint_step == 13
    assert script.trainer()["outcome"] == "terminated"


def test_an_exception_of_the_model_is_told(tmp_path: Path) -> None:
    """It goes through, and the run counts as failed."""
    script = Script(tmp_path / "run")
    trainer, _, sentinel, loader = job(tmp_path, script)

    class Breaks(pl.Callback):
        def on_before_backward(self, trainer: Any, *_: Any) -> None:
            raise ZeroDivisionError

    trainer.callbacks.append(Breaks())
    with pytest.raises(ZeroDivisionError):
        sentinel.fit(trainer, Line(), loader)
    assert script.trainer()["outcome"] == "failed"


def test_a_further_trainer_is_a_further_attempt(tmp_path: Path) -> None:
    """The same callback registers anew and takes commands again."""
    script = Script(tmp_path / "run")
    trainer, watch, sentinel, loader = job(tmp_path, script, max_steps=5)
    sentinel.fit(trainer, Line(), loader)
    script.at(2, "terminate")
    trainer, *_ = job(tmp_path, script, callbacks=[watch, sentinel])
    sentinel.fit(trainer, Line(), loader)
    assert (script.done(1).attempt, trainer.global_step) == (1, 3)


def test_the_doorbell_works_in_every_fit(tmp_path: Path) -> None:
    """Lightning restores all signal handlers when a fit ends; the next one hangs the bell again."""
    script = Script(tmp_path / "run").at(26, "rollback", to_step=20).at(24, "terminate")
    trainer, _, sentinel, loader = job(tmp_path, script)
    sentinel.fit(trainer, Line(), loader)
    assert script.done(2).checkpoint_step == trainer.global_step
    assert trainer.global_step < 40
    assert script.trainer()["signal"] == "SIGUSR2"
