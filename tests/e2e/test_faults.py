"""What goes wrong around a sentinel: a second one, a useless state, a hurt event file, a Slack in trouble."""

from __future__ import annotations

import json
import re
import time

import pytest
from tensorboard.compat.proto.event_pb2 import Event

from tests.e2e.job import TAG
from tests.e2e.scene import Scene, stop, until
from tests.sentinel.event_files import record, scalar
from tests.slack_stub import Reply, rate_limit


def test_a_second_sentinel_on_the_same_state_is_refused(scene: Scene) -> None:
    """It ends with 4, names the first one's pid, and the first one goes on."""
    first = scene.sentinel()
    until(lambda: scene.rows("SELECT 1 FROM meta WHERE name = 'last_tick'"), "the first one ticks")
    second = scene.sentinel(log="second.log")
    assert second.wait(30) == 4
    assert f"another sentinel (pid {first.pid})" in scene.said("second.log")
    job = scene.job("--end", "30")
    assert job.wait(30) == 0
    until(lambda: scene.rows("SELECT 1 FROM runs WHERE last_step = 30"), "the first one goes on")
    assert stop(first) == 0


@pytest.mark.parametrize("what", ["a file", pytest.param("no database", marks=pytest.mark.slow)])
def test_a_state_that_cannot_be_used_is_an_error_and_costs_training_nothing(scene: Scene, what: str) -> None:
    """A file in the folder's place, or a journal that is none: exit code 4, and the job ends as it would."""
    job = scene.job("--end", "100")
    if what == "a file":
        scene.state.write_text("I was here first")
    else:
        scene.state.mkdir()
        (scene.state / "journal.sqlite").write_bytes(b"I was here first" * 512)
    sentinel = scene.sentinel()
    assert sentinel.wait(30) == 4
    said = scene.said("sentinel.log")
    assert "--state" in said
    assert "Traceback" not in said
    assert job.wait(30) == 0


def test_what_is_around_a_hurt_record_is_judged_and_the_gap_is_told_once(scene: Scene) -> None:
    """A torn tail is waited for; a damaged record is skipped, and one message says that part was not read."""
    run = scene.logdir / "a"
    run.mkdir()
    events = (run / "events.out.tfevents.1700000000.here.1").open("ab", buffering=0)
    sentinel = scene.sentinel()
    events.write(record(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString()))
    events.write(point(1, 1.0) + point(2, 1.0))
    torn = point(3, 64.0)
    events.write(torn[:20])
    until(lambda: scene.rows("SELECT 1 FROM runs WHERE last_step = 2"), "what is whole is judged")
    events.write(torn[20:])
    until(lambda: scene.rows("SELECT 1 FROM runs WHERE last_step = 3"), "the rest of the record is there")
    assert not scene.rows("SELECT 1 FROM damage"), "a torn tail is no damage"

    hurt = bytearray(point(4, 64.0))
    hurt[20] ^= 0xFF
    events.write(bytes(hurt))
    events.write(point(5, 64.0) + point(6, 64.0) + point(7, 64.0))
    until(lambda: scene.rows("SELECT 1 FROM transitions WHERE after = 'firing'"), "both sides are judged")
    until(lambda: "cannot be read" in told(scene), "the gap is told")
    assert re.search(r"logged there, within [0-9.e-]+ s, was not judged", told(scene)), "and how long it is"
    until(lambda: not scene.rows("SELECT 1 FROM messages WHERE state != 'sent'"), "everything is told")
    assert [(t[1], t[2], t[3], t[4]) for t in scene.transitions()] == [
        ("inactive", "pending", 3, 3),
        ("pending", "firing", 5, 3),
    ]
    assert len(scene.rows("SELECT 1 FROM damage")) == 1
    assert sum("cannot be read" in json.dumps(call.body) for call in scene.slack.sent()) == 1
    assert stop(sentinel) == 0
    events.close()


@pytest.mark.parametrize(
    "errors",
    [
        [rate_limit(0.2)],
        pytest.param([Reply(500, b"oops"), rate_limit(2), Reply(503)], marks=pytest.mark.slow),
    ],
)
def test_a_slack_in_trouble_delays_no_decision_and_is_told_later(scene: Scene, errors: list[Reply]) -> None:
    """It hangs, then errs: the job is brought back meanwhile, and all messages arrive later."""
    scene.slack.script(Reply(hang=True), *errors)
    sentinel = scene.sentinel()
    job = scene.job("--diverge-at", "45", "--end", "80")
    until(lambda: scene.slack.calls, "the first message is on its way, and hangs")
    assert job.wait(40) == 0, "the rollback did not wait for Slack"
    assert [verb for _, verb, _ in scene.effects()] == ["checkpoint", "rollback"]
    assert not scene.slack.sent(), "nothing has arrived so far"
    late = scene.rows("SELECT max(recorded - wall_time) AS most FROM transitions")[0]["most"]
    assert late < 3.0, f"a point was judged {late:.2f} s after it was logged"

    scene.slack.release()
    until(lambda: not scene.rows("SELECT 1 FROM messages WHERE state != 'sent'"), "everything is told")
    for expected in ("loss_high", "checkpoint written", "rolled back to step", "resolved"):
        assert expected in told(scene)
    assert stop(sentinel) == 0


def point(step: int, value: float) -> bytes:
    """A record of the job's loss, logged now."""
    return scalar(TAG, step, value, time.time())


def told(scene: Scene) -> str:
    """What has arrived in Slack."""
    return json.dumps([call.body for call in scene.slack.sent()], ensure_ascii=False)
