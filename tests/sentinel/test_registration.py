"""What a trainer says of itself, read by one who must not be harmed by it; and what is measured of it."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from sentinel.attachment import Attached
from sentinel.foreign import Patterns
from sentinel.probes import ALIVE_EVERY, DEAD_EVERY, Probes
from sentinel.process import Liveness, myself
from sentinel.registration import Registration, Terms
from tests.fakes import FakeClock
from tests.sentinel.event_files import T0
from tests.sentinel.test_engine import register
from tests.sentinel.test_formats import zipped


def test_a_registration_is_read_again_only_when_it_has_changed(tmp_path: Path) -> None:
    """And what it declares is what a command may name."""
    known = Registration(tmp_path)
    assert not known.refresh()
    assert (known.declared, known.unreachable != "") == (None, True)
    register(tmp_path, reinit=["actor"], attempt=2, signal="SIGUSR2")
    assert known.refresh()
    assert not known.refresh()
    assert known.declared is not None
    assert dict(known.declared.values) == {"lr": 0.1}
    assert (known.attempt, known.declared.reinit, known.alive) == (2, frozenset({"actor"}), True)
    assert known.doorbell is not None
    assert known.unreachable == ""
    register(tmp_path, finished_at=T0, outcome="terminated")
    assert known.refresh()
    assert "the run is over (terminated)" in known.unreachable


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", '{"parameters": [1], "verbs": 3, "reinit": {}, "pid": "x"}']
)
def test_a_registration_that_makes_no_sense_declares_nothing(tmp_path: Path, content: str) -> None:
    """Another program may write there."""
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "trainer.json").write_text(content)
    known = Registration(tmp_path)
    known.refresh()
    declared = known.declared
    assert declared is None or (not declared.values and not declared.verbs)
    assert known.process is None
    assert known.attempt == 0


def test_a_dead_trainer_is_out_of_reach(tmp_path: Path) -> None:
    """Its start time is not that of the process which has its pid now."""
    register(tmp_path, start_time=1)
    known = Registration(tmp_path)
    known.refresh()
    assert known.unreachable == "the trainer's process has ended"


def test_checkpoints_are_measured_with_what_they_share_counted_once(tmp_path: Path) -> None:
    """A replay buffer lies beside them."""
    register(tmp_path)
    known = Registration(tmp_path)
    assert known.checkpoint_bytes() == 0
    known.refresh()
    for name in ("00-1", "00-2", "replay"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
        (tmp_path / "checkpoints" / name / "x").write_bytes(b"x" * 100)
    assert known.checkpoint_bytes() == 300


def test_a_death_is_measured_at_once_and_again_while_it_lasts(tmp_path: Path) -> None:
    """Rules hold by what is sampled; a run that is over is not measured."""
    register(tmp_path)
    (tmp_path / "control" / "heartbeat.json").write_text(json.dumps({"step": 700}))
    known = Registration(tmp_path)
    probes = Probes(tmp_path)
    assert probes.measure(known, T0) == []
    known.refresh()
    first = {tag: (step, value) for tag, step, _, value in probes.measure(known, T0)}
    assert first["sys/process_alive"] == (700, 1.0)
    assert 0 <= first["sys/disk_free_frac"][1] <= 1
    assert 0 < first["sys/rss_frac"][1] < 1
    assert probes.measure(known, T0 + ALIVE_EVERY - 1) == []
    register(tmp_path, start_time=1)
    known.refresh()
    dead = probes.measure(known, T0 + ALIVE_EVERY - 0.5)
    assert [(tag, value) for tag, _, _, value in dead] == [("sys/process_alive", 0.0)]
    assert len(probes.measure(known, T0 + ALIVE_EVERY + DEAD_EVERY)) == 1
    register(tmp_path, finished_at=T0)
    known.refresh()
    assert probes.measure(known, T0 + 1000) == []


TERMS = Terms({"checkpoint": signal.SIGUSR1}, Patterns(), FakeClock(now=4e9))


def test_a_job_without_guard_can_be_asked_for_what_has_a_signal(tmp_path: Path) -> None:
    """And for nothing else, with the reason for each."""
    known = Registration(tmp_path, TERMS)
    assert "nobody has registered" in known.unreachable
    assert known.attach(Attached(myself(), "pid"))
    assert not known.attach(Attached(myself(), "pid")), "it is new once"
    assert known.refresh()
    assert not known.refresh()
    assert known.unreachable == ""
    assert known.declared is not None
    assert known.declared.verbs == {"checkpoint"}
    assert set(known.declared.never) == {"rollback", "terminate"}
    assert (known.by_signal("checkpoint"), known.by_signal("terminate")) == (signal.SIGUSR1, None)
    assert (known.takes("checkpoint"), known.takes("rollback")) == (True, False)
    assert known.known is False, "a heartbeat would be read by nobody"


def test_without_signals_a_process_is_only_watched(tmp_path: Path) -> None:
    """Its liveness is measured, at the step of the run."""
    known = Registration(tmp_path)
    known.attach(Attached(myself(), "holder"))
    assert "gives no signal to any command" in known.unreachable
    assert known.declared is None
    samples = Probes(tmp_path).measure(known, T0, 77)
    assert samples[0] == ("sys/process_alive", 77, T0, 1.0)
    known.attach(Attached(None, None, "two write it"))
    assert "two write it" in known.unreachable
    assert Probes(tmp_path).measure(known, T0, 77) == []


def test_a_guards_word_comes_before_anything_found(tmp_path: Path) -> None:
    """Letters, not signals, from the moment it registers."""
    known = Registration(tmp_path, TERMS)
    known.attach(Attached(replace(myself(), pid=77), "holder"))
    register(tmp_path, verbs=["checkpoint", "rollback"])
    assert known.refresh()
    assert known.process == myself()
    assert known.by_signal("checkpoint") is None
    assert not known.attach(Attached(replace(myself(), pid=77), "pid"))


def test_whoever_writes_a_registration_can_only_name_a_process_of_their_own(tmp_path: Path) -> None:
    """The file's owner is the witness: root must not be led to signal somebody else's process."""
    register(tmp_path, uid=os.geteuid() + 1)
    known = Registration(tmp_path)
    known.refresh()
    assert known.process is None
    assert known.liveness is Liveness.UNKNOWN


def test_checkpoints_of_others_are_in_the_same_catalogue(tmp_path: Path) -> None:
    """Found by their names, and measured."""
    known = Registration(tmp_path, TERMS)
    assert known.catalogue is not None
    assert list(known.catalogue()) == []
    (tmp_path / "rl_model_40_steps.zip").write_bytes(zipped())
    assert [(c.step, c.verified) for c in known.catalogue()] == [(40, True)]
    assert known.checkpoint_bytes() == len(zipped())
