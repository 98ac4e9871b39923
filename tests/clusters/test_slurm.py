"""Slurm's answers, as its own commands gave them, and what is made of them."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.source import RuleErrors
from sentinel import guard
from sentinel.clusters import RESUME, Standing, Workload
from sentinel.clusters.requeue import THEIRS, script
from sentinel.clusters.slurm import BELL, Answer, Slurm, execute, judge, read_jobs
from sentinel.config import load
from sentinel.process import Liveness

RUNNING = "1|0|RUNNING|0|1795392509|1795392508|lab|1|\n"
COMPLETING = "1|0|COMPLETING|1|1795392510|1795392508|lab|1|\n"
PENDING = "1|0|PENDING|1|1795392516|1795392510|lab|1|\n"
AGAIN = "1|0|RUNNING|1|1795392516|1795392510|lab|1|\n"
SUSPENDED = "1|0|SUSPENDED|1|1795392516|1795392510|lab|1|\n"
CANCELLED = "1|0|CANCELLED|1|1795392516|1795392510|lab|1|\n"
ARRAY = "2_1|0|RUNNING|0|1795392523|1795392523|lab|1|\n2_0|0|RUNNING|0|1795392523|1795392523|lab|1|\n"
FIXED = "1|0|RUNNING|0|1795392526|1795392526|lab|0|\n"
FORGOTTEN = Answer(1, "", "slurm_load_jobs error: Invalid job id specified\n")
CONFIG = "Configuration data as of 2026-11-23T00:05:43\nClusterName             = lab\n"
SOURCES = f'#!/bin/sh\n. "$1/{RESUME}"\n'

REGISTERED = Workload(
    "slurm", "1", 0, 1795392511.0, {"cluster": "lab", "restarts": "0", "step": "0", "bell": "SIGURG"}
)


class Recorded:
    """Answers as Slurm 22.05 gave them; remembers what was run beside questions."""

    def __init__(self, jobs: str | Answer, batch: str = SOURCES) -> None:
        self._jobs = jobs if isinstance(jobs, Answer) else Answer(0, jobs, "")
        self._batch = batch
        self.done: list[str] = []

    def __call__(self, command: Sequence[str]) -> Answer:
        if command[0] == "squeue":
            return self._jobs
        if command[:3] == ["scontrol", "show", "config"]:
            return Answer(0, CONFIG, "")
        if command[:2] == ["scontrol", "write"]:
            return Answer(0, self._batch, "")
        self.done.append(" ".join(command))
        return Answer(0, "", "")


TOUCHES: Mapping[str, Callable[[Slurm, Workload], str]] = {
    "ring": Slurm.ring,
    "ask": lambda slurm, workload: slurm.ask(workload, signal.SIGTERM),
    "end": Slurm.end,
    "restart": Slurm.restart,
}


@pytest.mark.parametrize(
    ("said", "standing"),
    [
        (RUNNING, Standing.RUNNING),
        (COMPLETING, Standing.HELD),
        (PENDING, Standing.SUCCEEDED),
        (AGAIN, Standing.SUCCEEDED),
        (CANCELLED, Standing.ENDED),
    ],
)
def test_one_incarnation_is_followed_through_a_requeue(said: str, standing: Standing) -> None:
    """While it completes it is not over; once another one waits it has been succeeded."""
    (job,) = read_jobs(said)
    assert judge(REGISTERED, job).standing is standing


def test_a_later_incarnation_begins_only_when_it_runs() -> None:
    """A waiting job's start time is Slurm's estimate, and counts for nothing."""
    waiting, running = (Slurm(Recorded(said)).look(REGISTERED).now for said in (PENDING, AGAIN))
    assert waiting is not None
    assert running is not None
    assert (waiting.began, running.began) == (0.0, 1795392516.0)
    assert (running.facts["restarts"], running.facts["submit"]) == ("1", "1795392510")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"uid": 1000}, "belongs to user 0"),
        ({"facts": {"cluster": "other", "restarts": "0"}}, "is cluster lab"),
        ({"facts": {"cluster": "lab", "restarts": "3"}}, "another one of the same number"),
        ({"began": 1795392509.0 - 61}, "handed out again"),
        ({"facts": {"cluster": "lab", "restarts": "0", "submit": "17"}}, "submitted at another time"),
    ],
)
@pytest.mark.parametrize("touch", TOUCHES)
def test_a_job_that_is_not_the_registered_one_is_not_touched(
    touch: str, change: Mapping[str, object], words: str
) -> None:
    """Another user's, another cluster's, another number's job: nothing is run but questions."""
    recorded = Recorded(RUNNING)
    workload = replace(REGISTERED, **change)  # type: ignore[arg-type]  # the fields of a row above
    if "facts" in change:
        workload = replace(workload, facts={**workload.facts, "bell": BELL.name})
    said = TOUCHES[touch](Slurm(recorded), workload)
    assert words in said
    assert "foreign" in said
    assert recorded.done == []


@pytest.mark.parametrize("touch", TOUCHES)
@pytest.mark.parametrize("said", [PENDING, AGAIN, CANCELLED, "", "garbage\n", RUNNING + RUNNING, FORGOTTEN])
def test_nothing_but_the_running_incarnation_is_touched(touch: str, said: str | Answer) -> None:
    """A successor, an end, an answer that cannot be understood, and two answers leave the job alone."""
    recorded = Recorded(said)
    assert TOUCHES[touch](Slurm(recorded), REGISTERED) != ""
    assert recorded.done == []


def test_what_is_run_names_the_trainers_step_and_never_more() -> None:
    """The bell and a signal go to the step, an end to the job; without a step, to all of the job."""
    recorded = Recorded(RUNNING)
    slurm = Slurm(recorded)
    whole = replace(REGISTERED, facts={"cluster": "lab", "restarts": "0"})
    slurm.ring(REGISTERED)
    slurm.ask(REGISTERED, signal.SIGTERM)
    slurm.ask(whole, signal.SIGUSR1)
    slurm.end(REGISTERED)
    slurm.restart(REGISTERED)
    assert recorded.done == [
        "scancel --signal=URG 1.0",
        "scancel --signal=TERM 1.0",
        "scancel --signal=USR1 --full 1",
        "scancel 1",
        "scontrol requeue 1",
    ]


def test_a_job_is_rung_only_by_a_signal_that_kills_nobody() -> None:
    """A guard that does not listen to SIGURG is not rung, whatever else it would listen to."""
    recorded = Recorded(RUNNING)
    said = Slurm(recorded).ring(replace(REGISTERED, facts={"restarts": "0", "bell": "SIGUSR2"}))
    assert "looks into the folder by itself" in said
    assert recorded.done == []


def test_the_task_of_an_array_is_never_taken_for_the_whole_array() -> None:
    """squeue tells of each task; the number of the array alone is nobody's."""
    assert [job.id for job in read_jobs(ARRAY)] == ["2_1", "2_0"]
    assert Slurm(Recorded(ARRAY)).look(replace(REGISTERED, id="2")).standing is Standing.UNKNOWN


@pytest.mark.parametrize(
    ("jobs", "batch", "words"),
    [
        (RUNNING, "#!/bin/sh\npython train.py\n", "does not source control/resume.sh"),
        (RUNNING, "", "cannot be read"),
        (FIXED.replace("1795392526", "1795392509"), SOURCES, "without --requeue"),
    ],
)
def test_a_job_that_would_begin_from_nothing_is_not_requeued(jobs: str, batch: str, words: str) -> None:
    """The batch script has to read what it is to go on from."""
    recorded = Recorded(jobs, batch)
    assert words in Slurm(recorded).restart(REGISTERED)
    assert recorded.done == []


def test_a_number_that_slurm_has_forgotten_is_an_end_only_in_the_jobs_own_cluster() -> None:
    """A job of another cluster, or one that was mistyped, may be well: unknown."""
    slurm = Slurm(Recorded(FORGOTTEN))
    assert slurm.look(REGISTERED).standing is Standing.ENDED
    assert slurm.look(Workload("slurm", "1", 0)).standing is Standing.UNKNOWN


def test_unknown_is_neither_alive_nor_an_end() -> None:
    """A controller that does not answer neither ends a command nor proves a life."""
    seen = Slurm(Recorded(Answer(None, "", "squeue did not answer within 10 s"))).look(REGISTERED)
    assert seen.standing is Standing.UNKNOWN
    assert seen.standing.liveness is Liveness.UNKNOWN
    assert "did not answer" in seen.words


@given(st.text())
def test_no_text_is_taken_for_a_job_by_accident(text: str) -> None:
    """Whatever squeue prints, reading it raises nothing, and a job has a number as we know them."""
    assert all(job.id[0] in "123456789" for job in read_jobs(text))


def test_a_command_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No client on this machine is an answer like any other."""
    monkeypatch.setenv("PATH", "/nowhere")
    assert "No such file" in execute(["squeue"]).trouble


def test_variables_that_change_what_slurm_does_are_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """SCANCEL_BATCH or SLURM_CLUSTERS of our own shell must not turn a signal elsewhere."""
    monkeypatch.setenv("SCANCEL_BATCH", "1")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/slurm.conf")
    said = execute(["env"]).out
    assert "SCANCEL_BATCH" not in said
    assert "SLURM_CONF=/etc/slurm/slurm.conf" in said


# ── the guard's side ──

TASK = {"SLURM_JOB_ID": "12", "SLURMD_NODENAME": "n1", "SLURM_CLUSTER_NAME": "lab", "SLURM_STEP_ID": "0"}


def test_a_guard_says_which_job_it_is_part_of() -> None:
    """Number, step, cluster and restarts, as the batch step's variables and a task's tell."""
    found = Workload.from_record(guard._workload({**TASK, "SLURM_RESTART_COUNT": "2"}))
    assert found is not None
    assert (found.id, found.facts["step"], found.facts["restarts"]) == ("12", "0", "2")
    array = guard._workload({**TASK, "SLURM_ARRAY_JOB_ID": "11", "SLURM_ARRAY_TASK_ID": "4"})
    assert array is not None
    assert array["id"] == "11_4"


@pytest.mark.parametrize("missing", ["SLURM_JOB_ID", "SLURMD_NODENAME"])
def test_a_shell_of_salloc_makes_no_trainer_a_part_of_the_job(missing: str) -> None:
    """Only slurmd's own children have its node's name among their variables."""
    assert guard._workload({name: value for name, value in TASK.items() if name != missing}) is None


def test_a_heterogeneous_job_gets_letters_alone() -> None:
    """Its components share what would name them."""
    assert guard._workload({**TASK, "SLURM_HET_SIZE": "2"}) is None


# ── what a requeued job goes on from ──


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_any_word_stays_one_word_in_the_sourced_file(words: list[str]) -> None:
    """Quotes, blanks, newlines and `$(…)` in a path reach the program as they are."""
    body = script(words, "true") + 'printf "%s\\0" "$@"\n'
    said = subprocess.run(["sh", "-c", body, "sh"], capture_output=True, check=True).stdout
    assert said.decode().split("\0")[:-1] == words


@pytest.mark.parametrize(
    ("variables", "holds"),
    [
        ({"SLURM_JOB_ID": "1", "SLURM_RESTART_COUNT": "1"}, True),
        ({"SLURM_JOB_ID": "1", "SLURM_RESTART_COUNT": "2"}, True),
        ({"SLURM_JOB_ID": "1"}, False),
        ({"SLURM_JOB_ID": "9", "SLURM_RESTART_COUNT": "1"}, False),
        ({}, False),
    ],
)
def test_the_file_holds_in_later_incarnations_of_its_job_alone(
    variables: Mapping[str, str], holds: bool
) -> None:
    """A new job in the same folder begins as its script says."""
    body = script([THEIRS, "--resume"], Slurm().successor_test(REGISTERED)) + 'echo "$*"'
    said = subprocess.run(["sh", "-c", body, "sh", "train"], env=variables, capture_output=True, check=True)
    assert said.stdout == (b"train --resume\n" if holds else b"train\n")


# ── sentinel.toml ──


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[trainer]\njobs = { a = "12" }', 'write launcher = "slurm"'),
        ('[trainer]\nlauncher = "slurm"\njobs = { a = "my-job" }', "is no number of a Slurm job"),
        ('[trainer]\nlauncher = "slrum"', "slurm"),
    ],
)
def test_a_wrong_launcher_or_job_is_refused_with_what_to_write(tmp_path: Path, text: str, words: str) -> None:
    """Before anything is started."""
    path = tmp_path / "sentinel.toml"
    path.write_text(f'version = 1\ninclude = ["pack:generic"]\n{text}\n', encoding="utf-8")
    with pytest.raises(RuleErrors) as raised:
        load(path)
    assert words in str(raised.value)


def test_the_example_is_a_file_that_loads() -> None:
    """And names a job."""
    settings = load(Path(__file__).parents[2] / "examples" / "slurm" / "sentinel.toml")
    assert settings.service.trainer.jobs == {"plain": "4711"}
    assert json.dumps(settings.service.trainer.launcher) == '"slurm"'
