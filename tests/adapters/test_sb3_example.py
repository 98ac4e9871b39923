"""An SB3 run that diverges for real is stopped, taken back and cured by `sentinel run --act`."""

from __future__ import annotations

import sys

import pytest

from tests.e2e.scene import ROOT, Scene, scene, until

pytest.importorskip("stable_baselines3", reason="`make test-adapters` installs Stable-Baselines3")

__all__ = ["scene"]


def test_a_diverging_ddpg_is_taken_back_and_cured(scene: Scene) -> None:
    """Q beyond what rewards can add up to: checkpoint, rollback to before it, tau as published, recovered."""
    scene.config.write_text((ROOT / "examples/sb3_ddpg.toml").read_text(), encoding="utf-8")
    run = scene.logdir / "pendulum"
    job = ("--", sys.executable, "-m", "examples.sb3_ddpg", str(run), "--steps", "4000")
    whole = scene.start(
        *("-m", "sentinel", "run", "--act", "--config", str(scene.config)),
        *("--state", str(scene.state), str(scene.logdir), *job),
        log="sentinel.log",
    )
    assert until(lambda: whole.poll() is not None, "the run is over", 240)
    said = scene.said("sentinel.log")
    assert whole.returncode == 0, said
    assert "tau 0.005" in said, said
    steps = [(rule, to) for rule, _, to, _, _ in scene.transitions("pendulum") if rule == "td3/q_above_bound"]
    assert steps == [("td3/q_above_bound", to) for to in ("firing", "probation", "resolved")], said
    commands = [(row["verb"], row["state"]) for row in scene.rows("SELECT verb, state FROM commands")]
    assert commands == [("checkpoint", "done"), ("rollback", "done")], said
