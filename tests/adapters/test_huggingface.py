"""The Hugging Face callback with the real Trainer: registers, beats, has it save, goes back, ends."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers", reason="`make test-adapters` installs transformers")
pytest.importorskip("accelerate", reason="`make test-adapters` installs accelerate")

import torch  # noqa: E402 - after the skip

from sentinel.adapters.huggingface import SentinelCallback  # noqa: E402
from tests.adapters.letters import Script  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),
]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGUSR2)
    yield
    signal.signal(signal.SIGUSR2, before)


class Line(torch.nn.Module):
    """y = w x, the smallest model that a Trainer takes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        found = self.layer(x)
        return {"loss": ((found - labels) ** 2).mean(), "logits": found}


class Watch(transformers.TrainerCallback):
    """Sends what the script says; writes down rate and weight before each step."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.seen: list[tuple[int, float, float]] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        rate = parts["optimizer"].param_groups[0]["lr"]
        self.seen.append((state.global_step, rate, parts["model"].layer.weight.item()))
        self.script.tell(state.global_step)


def job(folder: Path, script: Script, **options: Any) -> tuple[Any, Watch]:
    """A Trainer over 64 points of a line, 8 steps an epoch."""
    x = torch.linspace(-1, 1, 64).reshape(-1, 1)
    data = [{"x": a, "labels": 3 * a} for a in x]
    arguments = transformers.TrainingArguments(
        output_dir=str(folder / "out"),
        **{
            "max_steps": 40,
            "per_device_train_batch_size": 8,
            "learning_rate": 0.01,
            "save_steps": 10,
            "logging_steps": 1,
            "report_to": ["tensorboard"],
            "disable_tqdm": True,
            "use_cpu": True,
            "seed": 3,
            **options,
        },
    )
    watch = Watch(script)
    return transformers.Trainer(Line(), arguments, train_dataset=data, callbacks=[watch]), watch


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the TensorBoard callback writes."""
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "run"))
    return tmp_path / "run"


def test_the_trainers_own_checkpoints_are_verified(tmp_path: Path, run: Path) -> None:
    """Each `checkpoint-N` gets a manifest; one asked for is written at once; the end is told."""
    script = Script(run).at(14, "checkpoint")
    trainer, _ = job(tmp_path, script)
    SentinelCallback(trainer).train()
    found = script.checkpoints()
    assert sorted(found) == [f"checkpoint-{n}" for n in (10, 15, 20, 30, 40)]
    assert all(c.verified for c in found.values()), found
    assert script.done(1).checkpoint == "checkpoint-15"
    assert {"optimizer.pt", "trainer_state.json"} <= {p.name for p in found["checkpoint-15"].path.iterdir()}
    assert script.trainer()["outcome"] == "finished"
    assert script.beat()["step"] == 40
    assert set(script.trainer()["parameters"]) == {"learning_rate", "max_grad_norm"}


def test_a_rollback_resumes_in_the_same_process_with_its_remedy(tmp_path: Path, run: Path) -> None:
    """Weights and data order are the checkpoint's, the schedule too, with a tenth of its rate."""
    script = Script(run).at(26, "rollback", to_checkpoint="checkpoint-20", set={"learning_rate": "x0.1"})
    trainer, watch = job(tmp_path, script)
    result = SentinelCallback(trainer).train()
    assert script.done(1).checkpoint_step == 20
    steps = [step for step, _, _ in watch.seen]
    assert steps == [*range(27), *range(20, 40)]
    first, again = watch.seen[20], watch.seen[27]
    assert again[2] == first[2], "the weight is the one that it was at step 20"
    assert again[1] == pytest.approx(first[1] * 0.1)
    assert watch.seen[-1][1] == pytest.approx(0.001 * 1 / 40), "the schedule goes on from there"
    assert (result.global_step, script.trainer()["attempt"]) == (40, 1)
    assert script.trainer()["parameters"]["learning_rate"]["value"] == pytest.approx(0.001)
    assert script.trainer()["outcome"] == "finished"
    assert len(list(run.glob("events.out.tfevents.*"))) == 2
    assert script.checkpoints()["checkpoint-30"].attempt == 1


def test_without_a_remedy_the_run_is_the_same_again(tmp_path: Path, run: Path) -> None:
    """Same data, same schedule, same weights, step for step: nothing was forgotten."""
    script = Script(run).at(26, "rollback", to_checkpoint="checkpoint-20")
    trainer, watch = job(tmp_path, script)
    SentinelCallback(trainer).train()
    assert watch.seen[27:34] == watch.seen[20:27]


def test_a_second_rollback_scales_what_the_checkpoint_had(tmp_path: Path, run: Path) -> None:
    """Relative to the value in force, applied to the checkpoint's own schedule."""
    half = {"learning_rate": "x0.5"}
    script = Script(run).at(16, "rollback", to_step=10, set=half).at(18, "rollback", to_step=10, set=half)
    trainer, watch = job(tmp_path, script)
    SentinelCallback(trainer).train()
    assert script.trainer()["attempt"] == 2
    at_ten = [rate for step, rate, _ in watch.seen if step == 10]
    assert at_ten == pytest.approx([at_ten[0], at_ten[0] / 2, at_ten[0] / 4])


def test_trainer_train_itself_offers_no_rollback(tmp_path: Path, run: Path) -> None:
    """Nobody would start the loop again; the letter is refused with the verbs that there are."""
    script = Script(run).at(25, "rollback", to_checkpoint="checkpoint-20")
    trainer, watch = job(tmp_path, script)
    SentinelCallback(trainer)
    trainer.train()
    assert script.trainer()["verbs"] == ["checkpoint", "terminate"]
    receipt = script.receipt(1)
    assert receipt is not None
    assert receipt.status == "refused"
    assert len(watch.seen) == 40


def test_a_damaged_checkpoint_is_refused_and_training_goes_on(tmp_path: Path, run: Path) -> None:
    """Seen before the loop is left, so nothing is lost."""
    script = Script(run).at(25, "rollback", to_checkpoint="checkpoint-20")
    trainer, watch = job(tmp_path, script)

    class Spoil(transformers.TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 22:
                (tmp_path / "out/checkpoint-20/optimizer.pt").write_bytes(b"torn")

    trainer.add_callback(Spoil())
    SentinelCallback(trainer).train()
    receipt = script.receipt(1)
    assert receipt is not None
    assert (receipt.status, "other content" in receipt.reason) == ("refused", True)
    assert len(watch.seen) == 40


def test_terminate_saves_and_stops_the_trainers_way(tmp_path: Path, run: Path) -> None:
    """train() returns after the step; the outcome is terminated."""
    script = Script(run).at(12, "terminate")
    trainer, watch = job(tmp_path, script)
    result = SentinelCallback(trainer).train()
    assert result.global_step == 13
    assert script.done(1).checkpoint == "checkpoint-13"
    assert script.checkpoints()["checkpoint-13"].verified
    assert script.trainer()["outcome"] == "terminated"
    assert all(math.isfinite(weight) for _, _, weight in watch.seen)


def test_a_second_training_is_a_further_attempt(tmp_path: Path, run: Path) -> None:
    """It registers anew and takes commands again."""
    script = Script(run)
    trainer, _ = job(tmp_path, script, max_steps=5)
    sentinel = SentinelCallback(trainer)
    sentinel.train()
    script.at(2, "terminate")
    result = sentinel.train()
    assert result.global_step == 3
    assert (script.done(1).attempt, script.trainer()["outcome"]) == (1, "terminated")
