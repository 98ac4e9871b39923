"""The loop logs, beats and obeys: letters go in by the control folder, receipts and state come out."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import checkpoint as checkpoints
from trainer import config
from trainer.__main__ import main
from trainer.config import ConfigError
from trainer.loop import Trainer

SMALL: dict[str, Any] = {
    "preset": "incident",
    "npcs": 0,
    "start_timesteps": 30,
    "max_timesteps": 80,
    "batch_size": 8,
    "hidden": 16,
    "feature_dim": 8,
    "log_interval": 10,
    "eval_freq": 0,
    "checkpoint_interval": 10,
}
Letter = dict[str, Any]


class Scripted(Trainer):
    """A trainer to whom letters arrive at given steps and phases, by folder and doorbell."""

    def __init__(self, run: Path, letters: Iterable[tuple[int, str, Letter]] = (), **more: Any) -> None:
        self.letters = list(letters)
        self.sent = 0
        self.seen: list[tuple[int, str]] = []
        self.said: list[str] = []
        super().__init__(config.build(SMALL | {"logdir": str(run)} | more), say=self.said.append)

    def _obey(self) -> bool:
        for letter in [one for one in self.letters if one[0] == self.step and one[1] == self.guard._phase]:
            self.letters.remove(letter)
            self.send(letter[2])
        return super()._obey()

    def send(self, letter: Letter) -> None:
        """Write a letter as the sentinel does, and ring."""
        self.sent += 1
        folder = self.run_dir / "control" / "commands"
        folder.mkdir(exist_ok=True)
        content = {"id": self.sent, "to_checkpoint": None, "to_step": None, "set": {}, "reinit": []}
        content |= {
            "if_attempt": None,
            "issued_at": time.time(),
            "expires_at": time.time() + 60,
            "reason": "test",
        }
        (folder / ".letter").write_text(json.dumps(content | letter), encoding="utf-8")
        (folder / ".letter").rename(folder / f"{self.sent:06d}.json")
        signal.raise_signal(signal.SIGUSR2)

    def receipt(self, number: int = 1) -> dict[str, Any]:
        return read(self.run_dir / "control" / "receipts" / f"{number:06d}.json")


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def digest(run: Path, name: str) -> str:
    state = checkpoints.read(run / "checkpoints" / name).state
    del state["lineage"]
    return checkpoints.digest(state)


def test_a_run_registers_beats_and_says_how_it_ended(tmp_path: Path) -> None:
    """trainer.json holds bounds and outcome; a checkpoint of step 0 is there before the first step."""
    trainer = Scripted(tmp_path / "run")
    assert checkpoints.names(tmp_path / "run" / "checkpoints") == ["00-00000000"]
    assert trainer.run() == "finished"
    record = read(tmp_path / "run" / "control" / "trainer.json")
    assert record["outcome"] == "finished"
    assert record["parameters"].keys() == config.LIVE.keys()
    assert record["parameters"]["tau"] == {"kind": "number", "value": 0.001, "low": 1e-4, "high": 1.0}
    assert record["parameters"]["q_features"]["choices"] == ["critic", "actor"]
    assert record["reinit"] == ["actor", "actor_encoder"]
    assert read(tmp_path / "run" / "control" / "heartbeat.json")["step"] == 80


@pytest.mark.parametrize(("step", "phase"), [(7, "collect"), (44, "update"), (50, "evaluate")])
def test_a_checkpoint_command_is_obeyed_in_every_phase(step: int, phase: str, tmp_path: Path) -> None:
    """In warm-up, learning and mid-evaluation: saved at that step, and the receipt names it."""
    run = tmp_path / "run"
    trainer = Scripted(run, [(step, phase, {"verb": "checkpoint"})], eval_freq=50, eval_episodes=1)
    trainer.run()
    name = f"00-{step:08d}"
    receipt = trainer.receipt()
    assert (receipt["status"], receipt["checkpoint"], receipt["checkpoint_step"]) == ("done", name, step)
    assert not checkpoints.verify(run / "checkpoints" / name)
    assert checkpoints.read_manifest(run / "checkpoints" / name)["step"] == step


def test_watching_and_saving_change_nothing_of_the_training(tmp_path: Path) -> None:
    """Evaluation, logging and an extra checkpoint leave the run bit for bit what it was."""
    Scripted(tmp_path / "plain").run()
    letters = [(44, "update", {"verb": "checkpoint"})]
    Scripted(tmp_path / "watched", letters, eval_freq=20, log_interval=3, checkpoint_interval=5).run()
    assert digest(tmp_path / "plain", "00-00000080") == digest(tmp_path / "watched", "00-00000080")


@pytest.mark.parametrize("replay_size", [1000, 24])
def test_a_rollback_without_a_remedy_repeats_the_run_bit_for_bit(tmp_path: Path, replay_size: int) -> None:
    """By pointer, or from disk when the ring has wrapped: the same steps, the same networks."""
    run = tmp_path / "run"
    letters = [(66, "update", {"verb": "rollback", "to_checkpoint": "00-00000040"})]
    trainer = Scripted(run, letters, replay_size=replay_size)
    trainer.run()
    receipt = trainer.receipt()
    assert (receipt["status"], receipt["checkpoint"], receipt["attempt"]) == ("done", "00-00000040", 1)
    assert trainer.guard.attempt == 1
    for step in (50, 60):
        assert digest(run, f"00-{step:08d}") == digest(run, f"01-{step:08d}")


def test_a_rollback_from_mid_evaluation_and_to_the_warm_up(tmp_path: Path) -> None:
    """An evaluation is given up; the random actions of the warm-up are drawn again as they were."""
    run = tmp_path / "run"
    letters = [(60, "evaluate", {"verb": "rollback", "to_checkpoint": "00-00000010"})]
    Scripted(run, letters, eval_freq=60).run()
    for step in (20, 30, 40, 50):
        assert digest(run, f"00-{step:08d}") == digest(run, f"01-{step:08d}")


def test_after_a_rollback_a_resume_is_still_exact(tmp_path: Path) -> None:
    """The second attempt's checkpoints carry rows of both attempts; a fresh process goes on from them."""
    run, copy = tmp_path / "run", tmp_path / "copy"
    letters = [(46, "update", {"verb": "rollback", "to_checkpoint": "00-00000020", "set": {"tau": 0.1}})]
    Scripted(run, letters).run()
    shutil.copytree(run, copy)
    assert main(["--logdir", str(copy), "--resume", "01-00000060"]) == 0
    assert digest(run, "01-00000080") == digest(copy, "02-00000080")


@pytest.fixture(scope="module")
def every_step(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from pixels that goes back once, from step 46 to 20, with a checkpoint of every step."""
    run = tmp_path_factory.mktemp("pixels") / "run"
    letters = [(46, "checkpoint", {"verb": "rollback", "to_checkpoint": "00-00000020", "set": {"tau": 0.1}})]
    pixels = {"observation": "image", "image_size": 48, "npcs": 5, "max_timesteps": 60}
    Scripted(run, letters, **pixels, checkpoint_interval=1, keep_checkpoints=100).run()
    return run


@pytest.mark.parametrize("max_examples", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_a_resume_from_any_step_of_a_run_from_pixels_is_exact(
    every_step: Path, tmp_path_factory: pytest.TempPathFactory, max_examples: int
) -> None:
    """In warm-up, in mid-episode, before a rollback and after it: what follows is the same, bit for bit."""
    # Of the steps that the rollback left behind only the five newest checkpoints stay.
    before, after = st.tuples(st.just(0), st.integers(0, 20)), st.tuples(st.just(1), st.integers(20, 59))

    @settings(max_examples=max_examples, deadline=None, database=None)
    @given(start=before | after)
    def goes_on(start: tuple[int, int]) -> None:
        attempt, step = start
        end = 45 if attempt == 0 else 60
        path = every_step / "checkpoints" / f"{attempt:02d}-{step:08d}"
        folder = tmp_path_factory.mktemp("resumed") / "run"
        asked = ["--resume", str(path), "--logdir", str(folder), "--max_timesteps", str(end)]
        assert main([*asked, "--checkpoint_interval", "100"]) == 0
        resumed = checkpoints.names(folder / "checkpoints")[-1]
        assert digest(folder, resumed) == digest(every_step, f"{attempt:02d}-{end:08d}")

    goes_on()


def test_rolling_back_twice_first_less_then_further(tmp_path: Path) -> None:
    """A checkpoint of the first attempt is a target from the second too, and one of an abandoned line."""
    run = tmp_path / "run"
    letters = [
        (61, "update", {"verb": "rollback", "to_checkpoint": "00-00000040"}),
        (66, "update", {"verb": "rollback", "to_checkpoint": "00-00000020"}),
        (74, "update", {"verb": "rollback", "to_checkpoint": "01-00000050"}),
    ]
    trainer = Scripted(run, letters)
    trainer.run()
    assert [trainer.receipt(n)["status"] for n in (1, 2, 3)] == ["done"] * 3
    assert trainer.lineage == [(0, 40), (1, 50), (3, 1 << 62)]
    Scripted(tmp_path / "plain").run()
    expected = digest(tmp_path / "plain", "00-00000070")
    assert digest(run, "02-00000070") == digest(run, "03-00000070") == expected


def test_a_remedy_takes_effect_and_is_declared(tmp_path: Path) -> None:
    """`set` and `reinit` are applied to the restored state; trainer.json shows the values now in force."""
    run = tmp_path / "run"
    remedy = {"q_features": "critic", "tau": 0.005, "actor_lr": "x0.5", "policy_freq": 3}
    letter = {
        "verb": "rollback",
        "to_checkpoint": "00-00000040",
        "set": remedy,
        "reinit": ["actor", "actor_encoder"],
    }
    trainer = Scripted(run, [(55, "update", letter)])
    trainer.run()
    parameters = trainer.agent.parameters
    assert (parameters.q_features, parameters.tau, parameters.policy_freq) == ("critic", 0.005, 3)
    assert math.isclose(parameters.actor_lr, 1.5e-4)
    shown = read(run / "control" / "trainer.json")["parameters"]
    assert {name: shown[name]["value"] for name in ("q_features", "tau", "policy_freq")} == {
        "q_features": "critic",
        "tau": 0.005,
        "policy_freq": 3,
    }
    before = checkpoints.read(run / "checkpoints" / "00-00000040").state["agent"]["nets"]
    after = checkpoints.read(run / "checkpoints" / "01-00000040").state["agent"]["nets"]
    same = {name for name in before if checkpoints.digest(before[name]) == checkpoints.digest(after[name])}
    assert same == {"critic", "critic_target", "critic_encoder", "critic_encoder_target"}


def test_a_rollback_may_leave_out_what_the_sick_policy_did(tmp_path: Path) -> None:
    """The checkpoint's newest transitions are not drawn after it, nor after a resume; the older ones are."""
    run = tmp_path / "run"
    letter = {"verb": "rollback", "to_checkpoint": "00-00000040", "set": {"skip_replay": 15}}
    trainer = Scripted(run, [(55, "update", letter)])
    trainer.run()
    ((first, end),) = trainer.replay.skipped
    drawable = [row for row in range(first, end) if trainer.replay.rows["drawable"][row]]
    assert len(drawable) == 15
    state = checkpoints.read(run / "checkpoints" / "01-00000060").state["replay"]
    assert [tuple(rows) for rows in state["skipped"]] == [(first, end)]


@pytest.mark.parametrize("harm", ["missing", "damaged", "replay", "name"])
def test_a_rollback_to_what_cannot_be_used_is_refused_and_changes_nothing(tmp_path: Path, harm: str) -> None:
    """Refused with the reason; the run then ends bit for bit as the one that was never asked."""
    plain, run = tmp_path / "plain", tmp_path / "run"
    Scripted(plain).run()
    target = "../../etc" if harm == "name" else "00-00000020"
    letter = {"verb": "rollback", "to_checkpoint": target, "set": {"tau": 0.5}, "reinit": ["actor"]}

    class Harmed(Scripted):
        def send(self, letter: Letter) -> None:
            path = run / "checkpoints" / "00-00000020"
            if harm == "missing":
                shutil.rmtree(path)
            elif harm == "damaged":
                (path / checkpoints.STATE).write_bytes(b"torn")
            elif harm == "replay":
                next((run / "replay").iterdir()).write_bytes(b"")
            super().send(letter)

    trainer = Harmed(run, [(44, "update", letter)])
    trainer.run()
    receipt = trainer.receipt()
    assert receipt["status"] == "refused"
    assert receipt["reason"]
    assert trainer.guard.attempt == 0
    if harm != "replay":  # there the segments of later checkpoints are harmed as well
        assert digest(plain, "00-00000080") == digest(run, "00-00000080")


def test_a_rollback_by_step_takes_the_newest_of_the_line(tmp_path: Path) -> None:
    """`to_step` finds the checkpoint at or before it; a letter that names no target is refused."""
    run = tmp_path / "run"
    letters = [
        (55, "update", {"verb": "rollback", "to_step": 37}),
        (57, "update", {"verb": "rollback"}),
    ]
    trainer = Scripted(run, letters)
    trainer.run()
    assert trainer.receipt(1)["checkpoint"] == "00-00000030"
    assert trainer.receipt(2)["status"] == "refused"


@pytest.mark.parametrize("phase", ["collect", "update", "evaluate"])
def test_terminate_saves_says_so_and_ends(tmp_path: Path, phase: str) -> None:
    """The last checkpoint is of the step at which the run was ended, and the outcome is terminated."""
    step = {"collect": 12, "update": 44, "evaluate": 40}[phase]
    trainer = Scripted(tmp_path / "run", [(step, phase, {"verb": "terminate"})], eval_freq=40)
    assert trainer.run() == "terminated"
    receipt = trainer.receipt()
    assert (receipt["status"], receipt["checkpoint_step"]) == ("done", step)
    assert read(tmp_path / "run" / "control" / "trainer.json")["outcome"] == "terminated"
    assert trainer.step == step


def test_a_disk_that_refuses_a_checkpoint_does_not_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of our own accord: told on stderr. On command: failed, with the reason. Training goes on either way."""

    def full(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    trainer = Scripted(tmp_path / "run", [(44, "update", {"verb": "checkpoint"})])
    monkeypatch.setattr(checkpoints, "write", full)
    assert trainer.run() == "finished"
    assert trainer.receipt()["status"] == "failed"
    assert "No space left" in trainer.receipt()["reason"]
    assert "training goes on" in capsys.readouterr().err


def test_a_crash_is_registered_as_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception ends the run as it should, and trainer.json says that it failed."""
    trainer = Scripted(tmp_path / "run")
    monkeypatch.setattr(trainer.env, "step", lambda _action: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.run()
    assert read(tmp_path / "run" / "control" / "trainer.json")["outcome"] == "failed"


def test_a_folder_that_holds_a_run_is_not_written_over(tmp_path: Path) -> None:
    """A second run of the same folder is refused with the two ways out."""
    Scripted(tmp_path / "run").run()
    with pytest.raises(ConfigError, match="--resume latest, or give another --logdir"):
        Scripted(tmp_path / "run")


def test_sigterm_ends_a_real_process_at_a_step_boundary(tmp_path: Path) -> None:
    """Exit code 143, after a checkpoint; the outcome is terminated."""
    run = tmp_path / "run"
    arguments = [sys.executable, "-m", "trainer", "--logdir", str(run), "--max_timesteps", "1000000"]
    with subprocess.Popen(arguments, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        deadline = time.monotonic() + 60
        while not (run / "checkpoints" / "00-00000100").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    assert read(run / "control" / "trainer.json")["outcome"] == "terminated"
    assert all(
        not checkpoints.verify(run / "checkpoints" / name) for name in checkpoints.names(run / "checkpoints")
    )


def test_everything_that_the_config_names_is_saved_with_the_run(tmp_path: Path) -> None:
    """config.json is what --resume goes by, so it holds every field."""
    trainer = Scripted(tmp_path / "run")
    assert read(tmp_path / "run" / "config.json") == dataclasses.asdict(trainer.config)
