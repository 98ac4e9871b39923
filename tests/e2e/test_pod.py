"""A trainer and its sentinel in containers: real namespaces, with one pid namespace for both or one for each.

They have the same host name and the same boot, as the containers of a pod have, so neither tells them apart.
"""

from __future__ import annotations

import json
import os
import sys

import pytest

from tests.e2e import pod
from tests.e2e.scene import Scene, until

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not sys.platform.startswith("linux") or not pod.may(),
    reason="pid and mount namespaces can be made by root alone",
)

NO_LADDER = '[override.loss_high]\nladder = "only_tell"\n[ladders.only_tell]\nrungs = [{ do = ["notify"] }]\n'

IMPATIENT = 'work_timeout = "500ms"\ngrace = "5s"\n'


def test_in_one_pid_namespace_the_trainer_is_rung_and_brought_back(scene: Scene) -> None:
    """`shareProcessNamespace`: pid, start time and boot mean the same to both, in mount namespaces apart."""
    job = ("-m", "tests.e2e.job", str(scene.logdir / "a"), "--diverge-at", "20", "--end", "60")
    scene.start("-m", "tests.e2e.pod", *job, "--", *sentinel(scene), log="pod.log")
    until(lambda: [verb for _, verb, _ in scene.effects() if verb == "rollback"], "it was brought back")
    until(lambda: outcome(scene) == "finished", "and trained to its end")
    assert states(scene, "rollback") == ["done"]
    assert registered(scene)["pid"] in range(2, 10), "the pid is one of the pod's"


def test_in_one_pid_namespace_a_deaf_trainer_is_ended_by_force(scene: Scene) -> None:
    """SIGTERM reaches it: it is not process 1 of its namespace, which the kernel would spare."""
    impatient(scene)
    scene.start("-m", "tests.e2e.pod", *deaf(scene), "--", *sentinel(scene), log="pod.log")
    until(lambda: scene.rows("SELECT 1 FROM runs WHERE last_step > 5"), "it is watched")
    asked = scene.ask("command", "a", "terminate", *scene.where())
    assert asked.returncode == 0, asked.stdout + asked.stderr
    (row,) = scene.rows("SELECT state, reason FROM commands WHERE verb = 'terminate'")
    assert (row["state"], row["reason"]) == ("done", "ended by SIGTERM")


@pytest.mark.parametrize(
    ("alone", "seen"), [((), "other host"), pytest.param(("--alone",), "unknown", marks=pytest.mark.slow)]
)
def test_in_two_pid_namespaces_nothing_is_signalled_and_no_end_is_believed(
    alone: tuple[str, ...], seen: str, scene: Scene
) -> None:
    """The sentinel finds another process, or nobody, under the trainer's pid: that says nothing about it. Nor
    is process 1 ever taken for a trainer.
    """
    impatient(scene)
    scene.start("-m", "tests.e2e.pod", *alone, *deaf(scene), log="job.log")
    until(lambda: scene.step() > 5, "it trains")
    scene.start("-m", "tests.e2e.pod", "--alone", *sentinel(scene), log="sentinel.log")
    until(lambda: scene.rows("SELECT 1 FROM runs WHERE last_step > 5"), "it is watched")
    asked = scene.ask("command", "a", "terminate", *scene.where())
    assert asked.returncode == 1, "it was not ended, and nobody says that it was"
    (row,) = scene.rows("SELECT state, reason FROM commands WHERE verb = 'terminate'")
    assert row["state"] == "unanswered"
    assert f"no further signal is sent, the process is {seen}" in row["reason"]
    before = scene.step()
    until(lambda: scene.step() > before, "it trains on")
    assert not [row for row in scene.rows("SELECT what FROM command_steps") if "SIGTERM" in row["what"]]


@pytest.mark.slow
def test_in_two_pid_namespaces_a_letter_does_all_that_a_letter_can(scene: Scene) -> None:
    """Without `shareProcessNamespace` the trainer finds its letters within a second, as from another host."""
    job = ("-m", "tests.e2e.job", str(scene.logdir / "a"), "--diverge-at", "20", "--end", "60")
    scene.start("-m", "tests.e2e.pod", "--alone", *job, log="job.log")
    scene.start("-m", "tests.e2e.pod", *sentinel(scene), log="sentinel.log")
    until(lambda: outcome(scene) == "finished", "it was brought back and trained to its end")
    assert states(scene, "rollback") == ["done"]
    ended = scene.rows("SELECT state FROM commands WHERE reason LIKE '%process has ended%'")
    assert ended == []


def impatient(scene: Scene) -> None:
    """Let no rule ask for anything, and a command that is taken and not carried out be late at once."""
    scene.write_rules(ack="5s", more=NO_LADDER)
    rules = scene.config.read_text(encoding="utf-8")
    scene.config.write_text(rules.replace("[trainer]\n", "[trainer]\n" + IMPATIENT), encoding="utf-8")


def sentinel(scene: Scene) -> tuple[str, ...]:
    options = ("-c", str(scene.config), "--state", str(scene.state), str(scene.logdir))
    return "-m", "sentinel", "run", *options


def deaf(scene: Scene) -> tuple[str, ...]:
    return "-m", "tests.e2e.odd_job", str(scene.logdir / "a"), "ignores"


def registered(scene: Scene) -> dict[str, object]:
    found: dict[str, object] = json.loads((scene.logdir / "a/control/trainer.json").read_bytes())
    return found


def outcome(scene: Scene) -> object:
    path = scene.logdir / "a/control/trainer.json"
    return registered(scene).get("outcome") if path.exists() else None


def states(scene: Scene, verb: str) -> list[str]:
    return [str(row["state"]) for row in scene.rows("SELECT state FROM commands WHERE verb = ?", verb)]
