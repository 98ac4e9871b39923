"""A TD3 training in a CARLA server, the sentinel beside it, and the server killed under it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.carla_server.process import CarlaServer
from tests.e2e.scene import Scene, stop, until
from trainer import checkpoint as checkpoints
from trainer.driving.env import VECTOR_SIZE
from trainer.replay import Replay

SHARED_FLAGS = ("--env", "carla", "--town", "Road0", "--eval_freq", "0", "--carla-timeout", "5")


def training(scene: Scene, server: CarlaServer, *flags: str) -> tuple[str, ...]:
    """The trainer's command line."""
    ports = ("--carla-port", str(server.port), "--tm-port", str(18000 + server.port % 10000))
    return ("-m", "trainer", *SHARED_FLAGS, *ports, "--logdir", str(scene.logdir / "a"), *flags)


def replay_of(scene: Scene, name: str) -> Replay:
    """The replay that a checkpoint names."""
    found = checkpoints.read(scene.logdir / "a" / "checkpoints" / name)
    capacity = found.state["replay"]["capacity"]
    replay = Replay(capacity, vector_dim=VECTOR_SIZE, action_dim=2, rng=np.random.default_rng(0))
    replay.load(found.state["replay"], found.segments, scene.logdir / "a" / "replay")
    return replay


def test_a_training_outlives_its_server_and_learns_nothing_from_the_fault(
    scene: Scene, carla_server: CarlaServer
) -> None:
    """Killed in a tick, with traffic: told, waited for, counted; all steps are made, and only those."""
    scene.write_rules(mode="observe", include='["pack:carla"]', more="\n[params]\nfault_limit = 1\n")
    sentinel = scene.sentinel()
    carla_server.fault("kill-at=150")
    flags = ("--npcs", "4", "--max_timesteps", "260", "--start_timesteps", "80", "--log_interval", "20")
    trainer = scene.start(*training(scene, carla_server, *flags), log="trainer.log")
    until(lambda: not carla_server.alive(), "the server is killed in its 150th tick")
    until(lambda: "the simulator failed: the connection" in scene.said("trainer.log"), "the fault is told")
    until(lambda: "waiting for the simulator" in scene.said("trainer.log"), "so is that it is waited for")
    assert trainer.poll() is None
    carla_server.restart()
    assert trainer.wait(90) == 0, scene.said("trainer.log")[-2000:]

    key = "carla/simulator_fails"
    until(
        lambda: [t for t in scene.transitions() if t[0] == key and t[2] == "firing"], "the rule has seen it"
    )
    until(lambda: scene.rows("SELECT 1 FROM runs WHERE phase = 'finished'"), "the end is known")
    assert stop(sentinel) == 0
    (newest, *_) = sorted(checkpoints.names(scene.logdir / "a" / "checkpoints"), reverse=True)
    rows = replay_of(scene, newest).rows[:600]
    learnt = rows[rows["drawable"]]
    assert len(learnt) == 260
    assert (learnt["reward"] > -30).all(), "no step of a world that was gone"
    assert (np.abs(np.diff(rows["vector"][:, 0]))[rows["drawable"][:-1]] < 0.1).all(), "speed has no leaps"


@pytest.mark.slow
def test_a_server_that_never_comes_ends_the_run_with_its_own_code(
    scene: Scene, carla_server: CarlaServer
) -> None:
    """It is said what is waited for; exit code 75, a checkpoint that verifies, and a resume that trains."""
    carla_server.kill()
    flags = ("--npcs", "0", "--max_timesteps", "40", "--start_timesteps", "40")
    trainer = scene.start(*training(scene, carla_server, *flags, "--carla-patience", "3"), log="trainer.log")
    assert trainer.wait(60) == 75
    said = scene.said("trainer.log")
    assert "no CARLA server at localhost" in said
    assert "given up" in said
    (name,) = {*checkpoints.names(scene.logdir / "a" / "checkpoints")}
    assert not checkpoints.verify(scene.logdir / "a" / "checkpoints" / name)
    carla_server.start()
    flags = ("--resume", "latest", "--logdir", str(scene.logdir / "a"), "--carla-patience", "60")
    resumed = scene.start("-m", "trainer", *flags, log="trainer.log")
    assert resumed.wait(60) == 0, scene.said("trainer.log")[-2000:]


@pytest.mark.slow
def test_td3_learns_to_drive_through_the_client(scene: Scene, carla_server: CarlaServer) -> None:
    """Three thousand steps in light traffic: the evaluation drives whole episodes."""
    flags = ("--npcs", "5", "--max_timesteps", "3000", "--eval_freq", "1500", "--eval_episodes", "2")
    trainer = scene.start(*training(scene, carla_server, *flags), log="trainer.log")
    assert trainer.wait(300) == 0, scene.said("trainer.log")[-2000:]
    lengths = [
        int(line.rsplit(" ", 1)[1]) for line in scene.said("trainer.log").splitlines() if "length" in line
    ]
    assert max(lengths) == 300
