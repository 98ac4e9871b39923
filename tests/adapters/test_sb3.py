"""The Stable-Baselines3 callback with the real library: registers, beats, saves, goes back, ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

sb3 = pytest.importorskip("stable_baselines3", reason="`make test-adapters` installs Stable-Baselines3")

import torch  # noqa: E402 - after the skip
from stable_baselines3.common.callbacks import BaseCallback  # noqa: E402
from stable_baselines3.common.logger import configure  # noqa: E402

from sentinel.adapters.sb3 import SentinelCallback  # noqa: E402
from tests.adapters.letters import Script  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),
]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before, threads = signal.getsignal(signal.SIGUSR2), torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    signal.signal(signal.SIGUSR2, before)


class Watch(BaseCallback):
    """Sends what the script says, and writes down what the model was at each step."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self.script = script
        self.steps: list[int] = []
        self.weights: dict[int, list[torch.Tensor]] = {}

    def _on_step(self) -> bool:
        self.script.tell(self.num_timesteps)
        self.steps.append(self.num_timesteps)
        return True


def train(model: Any, run: Path, script: Script, steps: int, **options: Any) -> Watch:
    model.set_logger(configure(str(run), ["tensorboard"]))
    watch = Watch(script)
    model.learn(steps, callback=[watch, SentinelCallback(**options)], log_interval=1)
    return watch


def ddpg(**more: Any) -> Any:
    options: dict[str, Any] = {"learning_starts": 50, "buffer_size": 500, "batch_size": 16, "seed": 1}
    options |= {"policy_kwargs": {"net_arch": [8]}, "device": "cpu", **more}
    return sb3.DDPG("MlpPolicy", "Pendulum-v1", **options)


def test_a_callback_registers_what_the_model_lets_change(tmp_path: Path) -> None:
    """Names are SB3's own, with the value in force and bounds; the run has ended when learn() returns."""
    script = Script(tmp_path)
    train(ddpg(), tmp_path, script, 60, every=0)
    trainer = script.trainer()
    assert trainer["parameters"]["learning_rate"] == {
        "kind": "number",
        "value": 1e-3,
        "low": 0.0,
        "high": 1.0,
    }
    assert {"tau", "policy_delay", "gradient_steps", "target_policy_noise"} <= set(trainer["parameters"])
    assert (trainer["outcome"], script.beat()["step"]) == ("finished", 60)


def test_a_checkpoint_is_sb3s_own_and_verified(tmp_path: Path) -> None:
    """Model, replay and manifest; DDPG.load reads it."""
    script = Script(tmp_path).at(80, "checkpoint")
    train(ddpg(), tmp_path, script, 100, every=40)
    receipt = script.done(1)
    found = script.checkpoints()
    assert [c.step for c in found.values()] == [0, 40, 80]
    assert all(c.verified for c in found.values()), found
    assert receipt.checkpoint_step == 80
    names = {path.name for path in found[str(receipt.checkpoint)].path.iterdir()}
    assert names == {"manifest.json", "rl_model_80_steps.zip", "rl_model_replay_buffer_80_steps.pkl"}
    model = sb3.DDPG.load(found[str(receipt.checkpoint)].path / "rl_model_80_steps.zip", device="cpu")
    assert model.num_timesteps == 80


@pytest.mark.parametrize("algorithm", ["DDPG", "SAC", "DQN", "PPO"])
def test_a_rollback_is_a_whole_state_with_its_remedy(tmp_path: Path, algorithm: str) -> None:
    """Weights, optimisers, counters and replay are the checkpoint's; then the remedy; then on it goes."""
    model = {
        "DDPG": ddpg,
        "SAC": lambda: sb3.SAC(
            "MlpPolicy", "Pendulum-v1", learning_starts=50, buffer_size=500, batch_size=16, device="cpu"
        ),
        "DQN": lambda: sb3.DQN(
            "MlpPolicy", "CartPole-v1", learning_starts=50, buffer_size=500, batch_size=16, device="cpu"
        ),
        "PPO": lambda: sb3.PPO("MlpPolicy", "CartPole-v1", n_steps=64, batch_size=32, device="cpu"),
    }[algorithm]()
    script = Script(tmp_path).at(
        150, "rollback", to_step=130, set={"learning_rate": "x0.1"}, reason="the test asks"
    )
    seen: dict[str, Any] = {}

    class Compare(BaseCallback):
        """Runs after the adapter at the start of the rollout in which the rollback happens."""

        def _on_rollout_start(self) -> None:
            if script.trainer()["attempt"] == 1 and not seen:
                receipt = script.done(1)
                saved = script.checkpoints()[str(receipt.checkpoint)]
                stored = getattr(sb3, algorithm).load(
                    saved.path / f"rl_model_{saved.step}_steps.zip", device="cpu"
                )
                seen["step"] = (self.model.num_timesteps, saved.step, receipt.checkpoint_step)
                seen["same"] = same(self.model.get_parameters(), stored.get_parameters())
                seen["updates"] = (self.model._n_updates, stored._n_updates)
                if getattr(self.model, "replay_buffer", None) is not None:
                    assert self.model.replay_buffer.size() == saved.step
                if algorithm == "SAC":
                    assert torch.equal(self.model.log_ent_coef.data, stored.log_ent_coef.data)

        def _on_step(self) -> bool:
            return True

    rate = model.learning_rate
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    watch = Watch(script)
    model.learn(320, callback=[watch, SentinelCallback(every=60), Compare()], log_interval=1)
    assert seen["same"], "weights and optimisers are the checkpoint's"
    step = seen["step"][0]
    assert seen["step"] == (step, step, step)
    assert step <= 130
    assert seen["updates"][0] == seen["updates"][1]
    assert script.trainer()["parameters"]["learning_rate"]["value"] == pytest.approx(rate * 0.1)
    holder = model.actor if algorithm in ("DDPG", "SAC") else model.policy
    assert holder.optimizer.param_groups[0]["lr"] == pytest.approx(rate * 0.1)
    assert model.num_timesteps >= 320, "the steps that were abandoned are made again"
    back = next(i for i, (a, b) in enumerate(pairwise(watch.steps)) if b <= a)
    assert watch.steps[back + 1] == step + 1
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 2


def same(one: Any, other: Any) -> bool:
    """Whether two nested dictionaries of tensors are equal, learning rates aside."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one if k != "lr")
    if isinstance(one, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def test_a_rollback_to_what_is_damaged_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    """Training goes on where it was, in the same attempt."""
    script = Script(tmp_path).at(100, "rollback", to_checkpoint="00-00000060")

    class Spoil(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps == 90:
                (tmp_path / "checkpoints/00-00000060/rl_model_60_steps.zip").write_bytes(b"PK")
            return True

    model = ddpg()
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    watch = Watch(script)
    model.learn(150, callback=[Spoil(), watch, SentinelCallback(every=60)])
    receipt = script.receipt(1)
    assert receipt is not None
    assert receipt.status == "refused"
    assert "other content" in receipt.reason
    assert watch.steps == list(range(1, 151))
    assert script.trainer()["attempt"] == 0


def test_terminate_saves_and_stops_the_loop_sb3s_way(tmp_path: Path) -> None:
    """learn() returns; the run's outcome is terminated."""
    script = Script(tmp_path).at(70, "terminate")
    watch = train(ddpg(), tmp_path, script, 1000, every=0)
    assert watch.steps[-1] == 70
    assert script.done(1).checkpoint_step == 70
    assert script.trainer()["outcome"] == "terminated"


def test_a_full_disk_costs_checkpoints_and_not_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is acknowledged as failed; nothing is raised into learn()."""
    script = Script(tmp_path).at(80, "checkpoint")
    model = ddpg()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "save", full)
    watch = train(model, tmp_path, script, 100, every=30)
    receipt = script.receipt(1)
    assert receipt is not None
    assert receipt.status == "failed"
    assert "No space left" in receipt.reason
    assert watch.steps[-1] == 100
    assert not list((tmp_path / "checkpoints").iterdir())


def test_normalisation_and_a_schedule_go_back_too(tmp_path: Path) -> None:
    """VecNormalize's running means are the checkpoint's; a scheduled rate is scaled and stays a schedule."""
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    env = VecNormalize(make_vec_env("Pendulum-v1", n_envs=2, seed=0))
    model = sb3.PPO(
        "MlpPolicy", env, n_steps=32, batch_size=32, device="cpu", learning_rate=lambda left: left * 1e-3
    )
    script = Script(tmp_path).at(200, "rollback", to_step=70, set={"learning_rate": "x0.5"})
    counts: list[float] = []

    class Count(BaseCallback):
        def _on_rollout_start(self) -> None:
            counts.append(float(env.obs_rms.count))

        def _on_step(self) -> bool:
            return True

    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    model.learn(640, callback=[Watch(script), SentinelCallback(every=64), Count()])
    assert script.done(1).checkpoint_step == 64
    assert any(b < a for a, b in pairwise(counts)), "the running mean forgot what is void"
    assert model.lr_schedule(0.5) == pytest.approx(0.5e-3 * script_factor(script), rel=0.2)


def script_factor(script: Script) -> float:
    """Half of what was in force then, over what the schedule says at the checkpoint."""
    return 0.5 * (1 - 256 / 640) / (1 - 64 / 640)


def test_a_second_learn_is_a_further_attempt(tmp_path: Path) -> None:
    """It registers anew and takes commands again; the step goes on."""
    script, model = Script(tmp_path), ddpg()
    train(model, tmp_path, script, 60, every=0)
    script.at(70, "terminate")
    model.learn(60, callback=[Watch(script), SentinelCallback(every=0)], reset_num_timesteps=False)
    assert (script.done(1).attempt, script.done(1).checkpoint_step) == (1, 70)
