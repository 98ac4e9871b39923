"""Two gloo ranks under torchrun learn one policy, obey at one step, and go on bit for bit."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from tests.trainer.ranked import SMALL
from trainer import checkpoint as checkpoints
from trainer import config
from trainer.__main__ import main
from trainer.checkpoint import CheckpointError
from trainer.ranks import Alone
from trainer.simulator import together

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(300)  # nine starts of Python and torch, on a machine that may be busy
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*LAUNCH, *arguments], cwd=ROOT, env=environment, text=True, capture_output=True, check=False
    )


def digest(run: Path, name: str) -> str:
    """Digest of all that training depends on in a checkpoint, of all ranks; how the run came there is not."""
    state = checkpoints.read(run / "checkpoints" / name).state
    assert len(state["others"]) == 1
    del state["lineage"]
    return checkpoints.digest(state)


def receipt(run: Path, number: int) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "control" / "receipts" / f"{number:06d}.json").read_bytes())
    return content


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The experiments of ranked.py: their folder, and what each rank saw."""
    folder = tmp_path_factory.mktemp("ranks")
    ended = torchrun("tests.trainer.ranked", "tell", str(folder))
    assert ended.returncode == 0, ended.stderr
    return folder, [json.loads((folder / f"rank{rank}.json").read_bytes()) for rank in (0, 1)]


Told = tuple[Path, list[dict[str, Any]]]


def test_two_halves_of_a_batch_teach_what_the_whole_does(told: Told) -> None:
    """Averaged gradients of critic and actor, clipped after that, are those of the concatenated batch."""
    for rank in told[1]:
        assert rank["update"]["moved"] > 1e-4
        assert rank["update"]["gap"] < 1e-6


@pytest.mark.parametrize("run", ["plain", "obeying", "evaluating", "simulated", "full_disk"])
def test_the_ranks_learn_the_same_from_what_each_has_seen(told: Told, run: str) -> None:
    """Networks, targets and moments are equal to the last bit; replays are not; so are the steps."""
    first, second = (rank[run] for rank in told[1])
    assert first["agent"] == second["agent"]
    assert first["replay"] != second["replay"]
    assert first["parameters"] == second["parameters"]
    assert first["path"] == second["path"]


def test_commands_land_on_all_ranks_at_the_same_step(told: Told) -> None:
    """Rollbacks with remedies, a refused one, and an end: each rank takes the same way through the steps."""
    folder, ranks = told
    run = folder / "obeying"
    assert [receipt(run, number)["status"] for number in range(1, 6)] == [
        "done",
        "done",
        "done",
        "refused",
        "done",
    ]
    assert receipt(run, 4)["reason"].count("'nowhere' is no checkpoint's name") == 2, (
        "each rank has said so, once"
    )
    for rank in ranks:
        path = rank["obeying"]["path"]
        moves = [(was, now) for was, now in itertools.pairwise(path) if now < was]
        assert moves == [(45, 40), (66, 20), (69, 60)]
        assert path[-1] == 76
        assert rank["obeying"]["parameters"]["tau"] == 0.1
        ((low, high),) = rank["obeying"]["skipped"]
        assert high - low <= 6, "each rank leaves out its part of the eight, and an episode's last row"
    assert json.loads((run / "control" / "trainer.json").read_bytes())["outcome"] == "terminated"


def test_a_rollback_repeats_the_run_of_all_ranks_bit_for_bit(told: Told) -> None:
    """The same steps again give the same checkpoint, and evaluation has no part in what is learnt."""
    folder, _ = told
    assert digest(folder / "obeying", "01-00000060") == digest(folder / "plain", "00-00000060")


def test_the_ranks_obey_while_the_first_evaluates(told: Told) -> None:
    """A command that comes in the middle of an evaluation does not wait for its end."""
    folder, ranks = told
    assert receipt(folder / "evaluating", 1)["checkpoint_step"] == 30
    assert receipt(folder / "evaluating", 2)["checkpoint_step"] == 41
    for rank in ranks:
        assert rank["evaluating"]["path"].count(30) > 5, "all ranks are asked in each step of an evaluation"


def test_a_fault_of_one_simulator_costs_that_rank_its_transition_alone(told: Told) -> None:
    """The others' step counts; all wait for the new episode, and go on together."""
    first, second = (rank["simulated"] for rank in told[1])
    assert (first["faults"], second["faults"]) == (1, 1)
    assert (first["step"], second["step"]) == (60, 60)
    assert (first["drawable"], second["drawable"]) == (59, 59)


def test_the_faults_of_all_simulators_are_one_count_that_never_falls(told: Told) -> None:
    """Rank 0 logs its own fault at once, with what it knew last of the other ranks'."""
    (path,) = (told[0] / "simulated").glob("events.*")
    logged = [
        (event.step, value.simple_value)
        for event in LegacyEventFileLoader(str(path)).Load()
        for value in event.summary.value
        if value.tag == "simulator/faults"
    ]
    assert [value for _, value in logged] == sorted(value for _, value in logged)
    assert {value for step, value in logged if step > 40} == {2}


def test_a_disk_that_one_rank_finds_full_costs_a_checkpoint_and_no_more(told: Told) -> None:
    """No checkpoint of half of the ranks; the next one is whole, and all went on."""
    folder, ranks = told
    names = checkpoints.names(folder / "full" / "checkpoints")
    assert names == ["00-00000000", "00-00000020", "00-00000060"]
    assert not checkpoints.verify(folder / "full" / "checkpoints" / "00-00000060")
    assert ranks[0]["full_disk"]["step"] == 60


def test_ranks_that_no_longer_agree_end_the_run_before_they_save(told: Told) -> None:
    """A tenth of a millionth in one weight of one rank is seen at the next checkpoint, on all of them."""
    folder, ranks = told
    for rank in ranks:
        assert rank["different"].startswith("step 20: the networks of rank 1 are not those of rank 0")
    assert checkpoints.names(folder / "different" / "checkpoints") == ["00-00000000"]


def test_a_killed_rank_ends_the_job_and_a_resume_goes_on_bit_for_bit(told: Told, tmp_path: Path) -> None:
    """SIGKILL of rank 1 in step 51: torchrun fails, and fresh processes come to what was to be."""
    folder, _ = told
    run = tmp_path / "killed"
    died = torchrun("tests.trainer.ranked", "die", str(run))
    assert died.returncode != 0
    assert signal.SIGKILL.name in died.stderr
    names = checkpoints.names(run / "checkpoints")
    assert names == ["00-00000000", "00-00000020", "00-00000040"]
    resumed = torchrun("trainer", "--logdir", str(run), "--resume", "latest")
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed from 00-00000040 at step 40" in resumed.stdout
    assert digest(run, "01-00000080") == digest(folder / "plain", "00-00000080")
    assert all(
        not checkpoints.verify(run / "checkpoints" / n) for n in checkpoints.names(run / "checkpoints")
    )


def test_another_number_of_ranks_is_refused_with_what_to_do(
    told: Told, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One process does not go on from a checkpoint of two, and says how to; nothing is changed."""
    run = tmp_path / "run"
    shutil.copytree(told[0] / "plain", run)
    assert main(["--logdir", str(run), "--resume", "latest"]) == 4
    said = capsys.readouterr().err
    assert "is of 2 ranks, this run has 1" in said
    assert "torchrun --nproc-per-node 2 -m trainer" in said
    alone = checkpoints.Checkpoint("00-00000001", 0, 1, {"step": 1}, ())
    with pytest.raises(CheckpointError, match=r"is of 1 rank, this run has 2.*without torchrun"):
        checkpoints.part_of(alone, 0, 2)


def test_alone_every_question_is_its_own_answer() -> None:
    """One process agrees with itself, has the run's seed, and raises what its own job raises."""
    ranks = Alone()
    assert (ranks.any(True), ranks.any(False), ranks.all(True), ranks.all(False)) == (True, False) * 2
    assert (ranks.gather(3), ranks.first(lambda: 4), ranks.together(lambda: 5)) == ([3], 4, 5)
    assert (ranks.seed(7), ranks.share(9)) == (7, 9)


def test_accounts_of_several_simulators_become_one() -> None:
    """Faults and restarts add up; of the times the longest counts."""
    one = {"simulator/faults": 1.0, "simulator/away_seconds": 0.0, "simulator/step_seconds": 0.1}
    two = {"simulator/faults": 2.0, "simulator/away_seconds": 7.0}
    assert together([one, two]) == {
        "simulator/faults": 3.0,
        "simulator/away_seconds": 7.0,
        "simulator/step_seconds": 0.1,
    }
    assert together([one]) == one


def test_each_rank_has_a_carla_server_of_its_own() -> None:
    """On one machine every tenth port; on several, machine by machine; each its own TrafficManager."""
    one = config.build({"env": "carla"})
    places = [(s.host, s.port, s.tm_port) for s in map(one.carla_server, range(3))]
    assert places == [("localhost", 2000, 8000), ("localhost", 2010, 8020), ("localhost", 2020, 8040)]
    many = config.build({"env": "carla", "carla_host": "left, right"})
    assert [(s.host, s.port) for s in map(many.carla_server, range(3))] == [
        ("left", 2000),
        ("right", 2000),
        ("left", 2010),
    ]


def test_a_batch_that_does_not_come_out_even_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every rank draws the same number of transitions, or the mean of means is not the mean."""
    monkeypatch.setattr(Alone, "count", 3)
    assert main(["--logdir", str(tmp_path / "run"), "--batch_size", str(SMALL["batch_size"])]) == 2
    assert "--batch_size 16 cannot be shared out evenly over 3 ranks" in capsys.readouterr().err


def test_a_process_parts_from_the_others_however_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is refused parts too: at the interpreter's end gloo's threads would abort the process."""
    parted = []

    class Noting(Alone):
        def part(self) -> None:
            parted.append("parted")

    monkeypatch.setattr("trainer.__main__.joined", Noting)
    (tmp_path / "run" / "checkpoints" / "00-00000001").mkdir(parents=True)
    assert main(["--logdir", str(tmp_path / "run")]) == 2
    assert parted == ["parted"]
