"""A fault that nothing cures: a few rollbacks, each with less, then an end in good order; never a loop."""

from __future__ import annotations

import json

from tests.e2e.scene import Scene, stop, until
from tests.e2e.test_disk import told

TWO_TRIES = """
[ladders.tries]
rungs = [
  { do = ["notify", "checkpoint"] },
  { do = ["rollback"], after = "2 points", to = "last_good", max = 2, remedy = "harder" },
  { do = ["terminate"], when = "exhausted" },
]
[remedies.harder]
tries = [{ set = { lr = "x0.5" } }, { set = { lr = "x0.25" } }]
[override.loss_high]
ladder = "tries"
"""


def test_a_fault_that_no_remedy_cures_ends_in_terminate_with_a_report(scene: Scene) -> None:
    """Two rollbacks, the second further back; then terminate, obeyed; all of it is told and in the status."""
    scene.write_rules(more=TWO_TRIES)
    sentinel = scene.sentinel()
    job = scene.job("--diverge-at", "45", "--end", "400", "--lr", "0.8", "--pace", "0.05")
    assert job.wait(100) == 0, scene.said("job.log")
    verbs = [verb for _, verb, _ in scene.effects()]
    assert verbs.count("rollback") == 2, scene.effects()
    assert verbs[-1] == "terminate"
    targets = [checkpoint for _, verb, checkpoint in scene.effects() if verb == "rollback"]
    assert targets == sorted(targets, key=lambda name: int(name[3:]), reverse=True), "never a newer one"
    record = json.loads((scene.logdir / "a" / "control" / "trainer.json").read_bytes())
    assert record["outcome"] == "terminated"
    until(lambda: "The run was ended" in told(scene), "the end is told")
    until(lambda: "run terminated" in told(scene), "by the trainer too")
    status = json.loads(scene.ask("status", "--json", *scene.where()).stdout)
    commands = [(c["verb"], c["state"]) for c in status["runs"][0]["commands"] if c["verb"] != "checkpoint"]
    assert commands == [("rollback", "done"), ("rollback", "done"), ("terminate", "done")]
    for expected in (*targets, "Rolled back to step", "The run was ended"):
        assert expected in told(scene), "what was tried is told, and the end"
    assert stop(sentinel) == 0
