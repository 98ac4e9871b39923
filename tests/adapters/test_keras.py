"""The Keras callback with the real library on its torch backend: registers, beats, saves, goes back, ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras", reason="`make test-adapters` installs Keras")

from sentinel.adapters.keras import SentinelCallback  # noqa: E402 - after the skip
from tests.adapters.letters import Script  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),
]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGUSR2)
    yield
    signal.signal(signal.SIGUSR2, before)


class Watch(keras.callbacks.Callback):
    """Sends what the script says; writes down rate, moments and weight before each batch."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self.script = script
        self.seen: list[tuple[int, float, float]] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        optimizer = self.model.optimizer
        step = int(optimizer.iterations)
        weight = float(keras.ops.convert_to_numpy(self.model.layers[0].kernel)[0, 0])
        self.seen.append((step, round(float(optimizer.learning_rate), 9), weight))
        self.script.tell(step)


def job(run: Path, script: Script, **options: Any) -> tuple[Any, Watch, SentinelCallback, dict[str, Any]]:
    """10 equal batches an epoch, checkpoints every 5 steps."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.Adam(options.pop("rate", 0.01)), loss="mse")
    watch, sentinel = Watch(script), SentinelCallback(run, every=5, **options)
    x = np.ones((80, 1), dtype="float32")
    return model, watch, sentinel, {"x": x, "y": 3 * x, "batch_size": 8, "verbose": 0, "callbacks": [watch]}


def test_checkpoints_are_verified_and_keras_reads_them(tmp_path: Path) -> None:
    """One at the start, one every five batches, one asked for."""
    script = Script(tmp_path).at(12, "checkpoint")
    model, watch, sentinel, options = job(tmp_path, script)
    sentinel.fit(model, epochs=2, **options)
    found = script.checkpoints()
    assert [c.step for c in found.values()] == [0, 5, 10, 13, 18]
    assert all(c.verified for c in found.values()), found
    again = keras.models.load_model(found[str(script.done(1).checkpoint)].path / "model.keras")
    assert int(again.optimizer.iterations) == 13
    assert float(keras.ops.convert_to_numpy(again.layers[0].kernel)[0, 0]) == watch.seen[13][2]
    assert (script.trainer()["outcome"], script.beat()["step"]) == ("finished", 20)


def test_a_rollback_loads_into_the_same_model_with_its_remedy(tmp_path: Path) -> None:
    """Weights, moments and counter are the checkpoint's, the rate a tenth; whole epochs stay done."""
    script = Script(tmp_path).at(24, "rollback", to_step=20, set={"learning_rate": "x0.1"})
    rewound: list[int] = []
    model, watch, sentinel, options = job(tmp_path, script, on_rollback=rewound.append)
    sentinel.fit(model, epochs=4, **options)
    assert script.done(1).checkpoint_step == 20
    first = next(i for i, (step, _, _) in enumerate(watch.seen) if step == 20)
    again = next(i for i, (step, _, _) in enumerate(watch.seen) if step == 20 and i > first)
    assert watch.seen[again] == (20, 0.001, watch.seen[first][2])
    assert rewound == [20]
    assert watch.seen[-1][0] == 39, "two epochs were done at step 20, two were left"
    assert script.trainer()["attempt"] == 1
    assert script.trainer()["parameters"]["learning_rate"]["value"] == pytest.approx(0.001)
    assert script.trainer()["outcome"] == "finished"


def test_without_a_remedy_the_run_is_the_same_again(tmp_path: Path) -> None:
    """Adam's moments too: the same weights, step for step."""
    script = Script(tmp_path).at(14, "rollback", to_step=10)
    model, watch, sentinel, options = job(tmp_path, script)
    sentinel.fit(model, epochs=3, **options)
    assert script.done(1).checkpoint_step == 10
    first, again = (i for i, (step, _, _) in enumerate(watch.seen) if step == 10)
    assert watch.seen[again : again + 4] == watch.seen[first : first + 4]


def test_a_scheduled_rate_is_not_declared(tmp_path: Path) -> None:
    """Keras would refuse to set it."""
    script = Script(tmp_path)
    rate = keras.optimizers.schedules.ExponentialDecay(0.01, 10, 0.9)
    model, _, sentinel, options = job(tmp_path, script, rate=rate)
    sentinel.fit(model, epochs=1, **options)
    assert script.trainer()["parameters"] == {}


def test_model_fit_itself_offers_no_rollback(tmp_path: Path) -> None:
    """Nobody would fit again."""
    script = Script(tmp_path).at(14, "rollback", to_step=10)
    model, watch, sentinel, options = job(tmp_path, script)
    model.fit(epochs=2, **{**options, "callbacks": [watch, sentinel]})
    receipt = script.receipt(1)
    assert receipt is not None
    assert receipt.status == "refused"
    assert len(watch.seen) == 20


def test_a_full_disk_costs_checkpoints_and_not_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is acknowledged as failed."""
    script = Script(tmp_path).at(8, "checkpoint")
    model, watch, sentinel, options = job(tmp_path, script)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "save", full)
    sentinel.fit(model, epochs=2, **options)
    receipt = script.receipt(1)
    assert receipt is not None
    assert (receipt.status, "No space left" in receipt.reason) == ("failed", True)
    assert len(watch.seen) == 20


def test_terminate_saves_and_stops_keras_way(tmp_path: Path) -> None:
    """fit() returns after the batch."""
    script = Script(tmp_path).at(12, "terminate")
    model, _, sentinel, options = job(tmp_path, script)
    sentinel.fit(model, epochs=9, **options)
    assert int(model.optimizer.iterations) == 13
    assert script.done(1).checkpoint_step == 13
    assert script.trainer()["outcome"] == "terminated"


def test_a_second_fit_is_a_further_attempt(tmp_path: Path) -> None:
    """It registers anew and takes commands again; the step goes on."""
    script = Script(tmp_path)
    model, _, sentinel, options = job(tmp_path, script)
    sentinel.fit(model, epochs=1, **options)
    script.at(12, "terminate")
    sentinel.fit(model, epochs=1, **options)
    assert (script.done(1).attempt, script.done(1).checkpoint_step) == (1, 13)
