"""`sentinel run --gate -- CMD`: a real training is ended by the gate it has failed, and its code says so."""

from __future__ import annotations

import json
import sys

import pytest

from tests.e2e.scene import ROOT, Scene

GATES = """
[[gate]]
name = "calm"
at = "40 steps"
forbid = ["fatal"]
require = [{ expr = "loss < 5", early_fail = true }]
"""


def gated(scene: Scene, *flags: str, job: tuple[str, ...], log: str = "both.log") -> int:
    """Run a job under a sentinel with the gate `calm`; the sentinel's exit code."""
    command = ["run", *flags, "--gate", "calm", "-c", str(scene.config), "--state", str(scene.state)]
    child = [sys.executable, "-m", "tests.e2e.job", str(scene.logdir / "a"), *job]
    process = scene.start("-m", "sentinel", *command, str(scene.logdir), "--", *child, log=log)
    return process.wait(60)


def verdict(scene: Scene) -> dict[str, str]:
    """What the journal, and so `sentinel status`, has of the gate."""
    (run,) = json.loads(scene.ask("status", "--json", *scene.where()).stdout)["runs"]
    found: dict[str, str] = run["gates"]["calm"]
    return found


def told(scene: Scene) -> list[str]:
    """The messages about the gate that have reached Slack."""
    rows = scene.rows("SELECT * FROM messages WHERE channel = 'slack' AND key LIKE '%/gate-calm/%'")
    assert all(row["state"] == "sent" for row in rows)
    return [row["body"] for row in rows]


def test_a_training_that_fails_its_gate_is_ended_there(scene: Scene) -> None:
    """It would have gone on to step 400; the end is asked for by the ordinary command, with the reason."""
    scene.write_rules(mode="act", more=GATES)
    assert gated(scene, job=("--diverge-at", "20", "--end", "400", "--pace", "0.05")) == 1
    assert scene.effects()[-1][1] == "terminate"
    assert scene.step() < 200
    (command,) = scene.rows("SELECT * FROM commands WHERE verb = 'terminate'")
    assert command["state"] == "done"
    letter = json.loads(command["letter"])
    assert letter["reason"].startswith("gate calm failed: 1 of 1 requirements is False: loss < 5 (")
    assert verdict(scene)["verdict"] == "fail"
    assert len(told(scene)) == 1
    assert "asked the trainer to end" in told(scene)[0]
    assert (
        scene.ask("gate", str(scene.logdir / "a"), "--gate", "calm", "-c", str(scene.config)).returncode == 1
    )


@pytest.mark.slow
def test_a_training_that_passes_ends_with_0(scene: Scene) -> None:
    """The gate is told at info, and the job runs to its own end."""
    scene.write_rules(mode="act", more=GATES)
    assert gated(scene, job=("--end", "60", "--pace", "0.02")) == 0
    assert scene.step() == 60
    assert verdict(scene)["verdict"] == "pass"
    assert len(told(scene)) == 1


@pytest.mark.slow
def test_a_training_too_short_for_its_gate_ends_with_3(scene: Scene) -> None:
    """It ended well, at step 30 of 40: nothing is wrong with the job, and nothing was shown."""
    scene.write_rules(mode="act", more=GATES)
    assert gated(scene, job=("--end", "30", "--pace", "0.02")) == 3
    assert verdict(scene)["verdict"] == "inconclusive"


@pytest.mark.slow
def test_in_observe_mode_it_goes_on_and_still_ends_with_1(scene: Scene) -> None:
    """What would have been done is told; the verdict is the same."""
    scene.write_rules(mode="observe", more=GATES.replace("loss < 5", "loss < 0.5"))
    assert gated(scene, job=("--end", "60", "--pace", "0.02")) == 1
    assert scene.step() == 60
    assert scene.effects() == []
    assert "would end the training" in told(scene)[0]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_incident_is_ended_by_the_shipped_2k_gate(scene: Scene) -> None:
    """The real trainer with the incident's fault: it does not live to see step 2000."""
    scene.config = ROOT / "sentinel.toml"
    command = [
        "run",
        "--act",
        "--gate",
        "validation-2k",
        "-c",
        str(scene.config),
        "--state",
        str(scene.state),
    ]
    flags = ["--preset", "incident", "--npcs", "0", "--eval_freq", "0", "--max_timesteps", "6000"]
    child = [sys.executable, "-m", "trainer", *flags, "--logdir", str(scene.logdir / "a")]
    process = scene.start("-m", "sentinel", *command, str(scene.logdir), "--", *child, log="both.log")
    assert process.wait(240) == 1, scene.said("both.log")[-2000:]
    assert 1000 < scene.step() < 2500
    (ended,) = scene.rows("SELECT * FROM commands WHERE verb = 'terminate'")
    assert ended["state"] == "done"
    assert "gate validation-2k failed: td3/actor_exploits_critic" in json.loads(ended["letter"])["reason"]
