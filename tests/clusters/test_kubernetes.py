"""Kubernetes: what its API server says, and what is asked of it, over real HTTPS against recorded answers."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from rules.source import RuleErrors
from sentinel import guard
from sentinel.cli import _parser, main
from sentinel.clusters import NO_ANSWER, Standing, Workload
from sentinel.clusters.kubernetes import ApiServer, Kubernetes, judge
from sentinel.clusters.requeue import THEIRS, script
from sentinel.config import load
from sentinel.process import Liveness, myself, send
from sentinel.registration import Registration
from tests.clusters.api_server import (
    BUDGET,
    CONFLICT,
    FORBIDDEN,
    GONE,
    JOB_UID,
    NEXT_UID,
    POD_UID,
    TOKEN,
    ApiServerOnLoopback,
    job,
    pod,
)
from tests.e2e.scene import until
from tests.sentinel.event_files import scalar

MANIFEST = Path(__file__).parents[2] / "examples/kubernetes/train.yaml"
FACTS = {"pod_uid": POD_UID, "job": "td3", "job_uid": JOB_UID}
REGISTERED = Workload("kubernetes", "training/td3-x7k2p", 1000, 1763640534.0, FACTS)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServerOnLoopback]:
    server = ApiServerOnLoopback()
    with server.serve(tmp_path / "credentials"):
        yield server


@pytest.fixture
def cluster(api: ApiServerOnLoopback, tmp_path: Path) -> Kubernetes:
    return Kubernetes(ApiServer("127.0.0.1", api.port, tmp_path / "credentials"))


# ── seeing ──


def test_a_running_pod_is_seen_with_its_job(api: ApiServerOnLoopback, cluster: Kubernetes) -> None:
    """The token goes with each request; a pod that was only named is known by uid from then on."""
    assert cluster.look(REGISTERED).standing is Standing.RUNNING
    named = cluster.look(Workload("kubernetes", "training/td3-x7k2p"))
    assert named.now is not None
    assert named.now.facts == FACTS
    assert all(headers["Authorization"] == f"Bearer {TOKEN}" for _, _, _, headers in api.asked)


@pytest.mark.parametrize(
    ("found", "standing"),
    [
        (pod(phase="Pending"), Standing.HELD),
        (pod(deletionTimestamp="2026-11-20T12:19:00Z"), Standing.HELD),
        (pod(phase="Failed"), Standing.ENDED),
        (pod(phase="Succeeded"), Standing.ENDED),
        (pod(phase="Unknown"), Standing.UNKNOWN),
        (pod(uid=NEXT_UID), Standing.SUCCEEDED),
        (pod(uid=NEXT_UID, ownerReferences=[]), Standing.FOREIGN),
        ({"kind": "Pod"}, Standing.UNKNOWN),
        ({"metadata": [], "status": 3}, Standing.UNKNOWN),
    ],
)
def test_what_is_made_of_a_pod(found: dict[str, Any], standing: Standing) -> None:
    """Another uid is another incarnation of the same job, or somebody else's; what is odd is unknown."""
    assert judge(REGISTERED, found).standing is standing


@pytest.mark.parametrize(
    ("its_job", "pods", "standing"),
    [
        (job(), [pod(uid=NEXT_UID, name="td3-b9q4z")], Standing.SUCCEEDED),
        (job(), [], Standing.HELD),
        (job(suspend=True), [], Standing.ENDED),
        (job() | {"status": {"conditions": [{"type": "Failed", "status": "True"}]}}, [], Standing.ENDED),
        (None, [], Standing.ENDED),
    ],
)
def test_a_pod_that_is_gone_is_sought_in_its_job(
    its_job: dict[str, Any] | None,
    pods: list[dict[str, Any]],
    standing: Standing,
    api: ApiServerOnLoopback,
    cluster: Kubernetes,
) -> None:
    """The job starts another pod under another name; until then it waits, unless the job is over."""
    api.say("GET", api.pod, GONE)
    api.say("GET", api.pods, (200, {"kind": "PodList", "items": pods}, {}))
    api.say("GET", api.job, GONE if its_job is None else (200, its_job, {}))
    seen = cluster.look(REGISTERED)
    assert seen.standing is standing
    if standing is Standing.SUCCEEDED:
        assert seen.now is not None
        assert (seen.now.id, seen.now.facts["pod_uid"]) == ("training/td3-b9q4z", NEXT_UID)


@pytest.mark.parametrize("trouble", ["hangs up", "refuses", "no token", "not ours", "forbidden", "budget"])
def test_a_server_that_gives_no_answer_ends_nothing(
    trouble: str, api: ApiServerOnLoopback, cluster: Kubernetes, tmp_path: Path
) -> None:
    """The job is unknown then; the reason is told on one line, and the token stands nowhere in it."""
    match trouble:
        case "hangs up":
            api.hangs.set()
        case "refuses":
            cluster = Kubernetes(ApiServer("127.0.0.1", 1, tmp_path / "credentials"))
        case "no token":
            (tmp_path / "credentials/token").unlink()
        case "not ours":  # a token that is no header: its error would quote it
            (tmp_path / "credentials/token").write_text(f"{TOKEN}\nX-Evil: 1")
        case "forbidden":
            api.say("GET", api.pod, FORBIDDEN)
        case _:
            api.say("GET", api.pod, BUDGET)
    seen = cluster.look(REGISTERED)
    assert seen.standing is Standing.UNKNOWN
    assert seen.words
    assert "\n" not in seen.words
    assert "a-service-accounts-token" not in seen.words
    assert cluster.restart(REGISTERED).startswith("not evicted")
    assert cluster.end(REGISTERED).startswith("not ended")
    assert not api.changes()


# ── asking ──


def test_a_restart_evicts_that_very_pod(api: ApiServerOnLoopback, cluster: Kubernetes) -> None:
    """The uid is a precondition that the server checks; the pod has its own grace to end."""
    assert cluster.restart(REGISTERED) == ""
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": "td3-x7k2p", "namespace": "training"},
        "deleteOptions": {"preconditions": {"uid": POD_UID}},
    }
    assert api.changes() == [("POST", f"{api.pod}/eviction", body)]


@pytest.mark.parametrize(
    ("answer", "again"), [(BUDGET, True), (FORBIDDEN, False), (CONFLICT, False), (GONE, False)]
)
def test_an_eviction_that_is_not_granted_is_told(
    answer: Any, again: bool, api: ApiServerOnLoopback, cluster: Kubernetes
) -> None:
    """A disruption budget may allow it later; a missing right or another uid never."""
    api.say("POST", f"{api.pod}/eviction", answer)
    said = cluster.restart(REGISTERED)
    assert said.startswith("not evicted: ")
    assert str(answer[0]) in said
    assert (NO_ANSWER in said) is again
    assert ("again in 10 s" in said) is again


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"pod": pod(phase="Pending")}, "is held"),
        ({"pod": pod(uid=NEXT_UID, ownerReferences=[])}, "is foreign"),
        (
            {"pod": pod() | {"spec": {"containers": [{"command": ["python", "train.py"]}]}}},
            "begin from nothing",
        ),
        ({"job": job(suspend=True)}, "is suspended"),
        ({"job": job() | {"status": {"failed": 3}}}, "backoffLimit"),
        ({"job": job() | {"metadata": {"uid": NEXT_UID, "name": "td3"}}}, "another one of the same name"),
    ],
)
def test_a_pod_that_would_not_come_back_is_not_evicted(
    changed: dict[str, Any], why: str, api: ApiServerOnLoopback, cluster: Kubernetes
) -> None:
    """Before anything is asked, it is seen whether the job would start the pod anew, and from where."""
    for what, body in changed.items():
        api.say("GET", getattr(api, what), (200, body, {}))
    assert why in cluster.restartable(REGISTERED)
    assert why in cluster.restart(REGISTERED)
    assert not api.changes()


def test_an_ignored_disruption_costs_no_failure(api: ApiServerOnLoopback, cluster: Kubernetes) -> None:
    """With the manifest's podFailurePolicy an eviction does not count against backoffLimit."""
    (policy,) = [d["spec"]["podFailurePolicy"] for d in documents() if d["kind"] == "Job"]
    api.say("GET", api.job, (200, job(podFailurePolicy=policy) | {"status": {"failed": 3}}, {}))
    assert cluster.restartable(REGISTERED) == ""


def test_an_end_is_the_jobs_and_can_be_undone(api: ApiServerOnLoopback, cluster: Kubernetes) -> None:
    """SIGTERM is a suspended job, which ends its pods; by force the pod is evicted without grace besides."""
    assert cluster.ask(REGISTERED, signal.SIGTERM) == ""
    suspend = ("PATCH", api.job, {"metadata": {"uid": JOB_UID}, "spec": {"suspend": True}})
    assert api.changes() == [suspend]
    assert cluster.end(REGISTERED) == ""
    _, again, (method, _, body) = api.changes()
    assert again == suspend
    assert (method, body and body["deleteOptions"]["gracePeriodSeconds"]) == ("POST", 0)


def test_a_pod_of_no_job_is_evicted_for_good(api: ApiServerOnLoopback, cluster: Kubernetes) -> None:
    """Nobody would start it anew."""
    api.say("GET", api.pod, (200, pod(ownerReferences=[]), {}))
    alone = Workload("kubernetes", "training/td3-x7k2p", facts={"pod_uid": POD_UID})
    assert cluster.ask(alone, signal.SIGTERM) == ""
    assert [method for method, _, _ in api.changes()] == ["POST"]
    assert "are not known" in cluster.restartable(alone)


def test_no_other_signal_goes_through_the_api(api: ApiServerOnLoopback, cluster: Kubernetes) -> None:
    """The API has none; a letter is found by the guard itself."""
    assert "signals no process" in cluster.ask(REGISTERED, signal.SIGUSR1)
    assert "signals no process" in cluster.ring(REGISTERED)
    assert not api.asked


# ── incarnations ──


def test_a_guard_says_which_pod_it_is_in() -> None:
    """As its manifest tells it; without the uid it counts as none."""
    environment = {
        "KUBERNETES_SERVICE_HOST": "10.0.0.1",
        "POD_NAME": "td3-x7k2p",
        "POD_NAMESPACE": "training",
    }
    assert guard._workload(environment) is None
    environment |= {"POD_UID": POD_UID, "JOB_NAME": "td3", "JOB_UID": JOB_UID}
    record = guard._workload(environment)
    found = Workload.registered({"workload": record, "uid": 1000, "started_at": 1763640534.0})
    assert found == REGISTERED
    assert guard._workload({**environment, "KUBERNETES_SERVICE_HOST": ""}) == record
    assert guard._workload({k: v for k, v in environment.items() if "SERVICE" not in k}) is None


@pytest.mark.parametrize(
    ("pod_uid", "job_uid", "resumes"),
    [(NEXT_UID, JOB_UID, True), (POD_UID, JOB_UID, False), (NEXT_UID, "other", False), ("", "", False)],
)
def test_only_a_later_pod_of_that_job_resumes(
    pod_uid: str, job_uid: str, resumes: bool, cluster: Kubernetes, tmp_path: Path
) -> None:
    """The file that the manifest sources asks for both uids, in a real shell."""
    file = tmp_path / "resume.sh"
    file.write_text(script([THEIRS, "--resume", "at 100"], cluster.successor_test(REGISTERED)))
    done = subprocess.run(
        ["/bin/sh", "-euc", f'set -- train; . {file}; printf "%s|" "$@"'],
        env={"POD_UID": pod_uid, "JOB_UID": job_uid} if pod_uid else {},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ("train|--resume|at 100|" if resumes else "train|")


# ── what the user writes ──


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8")))


def test_the_manifest_is_valid() -> None:
    """Against the schemas that Kubernetes publishes, unknown fields included."""
    validator = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    for document in documents():
        validator.validate(document, "1.33", strict=True)


def test_the_manifest_grants_what_is_asked_and_no_more(api: ApiServerOnLoopback, cluster: Kubernetes) -> None:
    """Every request that was ever made by these tests is one of the Role's verbs, and each verb is used."""
    cluster.restart(REGISTERED)
    cluster.end(REGISTERED)
    api.say("GET", api.pod, GONE)
    cluster.look(REGISTERED)
    used = set()
    for method, path, _, _ in api.asked:
        what = "jobs" if "/jobs/" in path else "pods/eviction" if path.endswith("/eviction") else "pods"
        verb = {"POST": "create", "PATCH": "patch"}.get(method, "list" if "?" in path else "get")
        used.add((what, verb))
    (role,) = [d for d in documents() if d["kind"] == "Role"]
    granted = {(what, verb) for rule in role["rules"] for what in rule["resources"] for verb in rule["verbs"]}
    assert used == granted


def test_the_manifests_parts_fit_together(tmp_path: Path) -> None:
    """One process namespace, one user, one volume; the command line and the configuration are understood."""
    by_kind = {document["kind"]: document for document in documents()}
    spec = by_kind["Job"]["spec"]["template"]["spec"]
    (sidecar,), (train,) = spec["initContainers"], spec["containers"]
    assert spec["shareProcessNamespace"]
    assert spec["securityContext"]["runAsUser"] > 0
    assert not any("securityContext" in container for container in (sidecar, train))
    assert sidecar["restartPolicy"] == "Always"
    asked = _parser().parse_args(sidecar["command"][1:])
    assert asked.act
    mounts = [
        {m["name"]: m["mountPath"] for m in container["volumeMounts"]} for container in (sidecar, train)
    ]
    assert mounts[0]["runs"] == mounts[1]["runs"]
    file = tmp_path / "sentinel.toml"
    file.write_text(by_kind["ConfigMap"]["data"]["sentinel.toml"])
    assert load(file).service.trainer.launcher == "kubernetes"
    told = {entry["name"] for entry in train["env"]}
    assert told == {"POD_NAME", "POD_NAMESPACE", "POD_UID", "JOB_NAME", "JOB_UID"}


def test_a_pod_is_named_with_its_namespace(tmp_path: Path) -> None:
    """A name alone is an error that shows how it is written."""
    file = tmp_path / "sentinel.toml"
    file.write_text('version = 1\n[trainer]\nlauncher = "kubernetes"\njobs = { a = "td3-x7k2p" }\n')
    with pytest.raises(RuleErrors, match='write "NAMESPACE/POD"'):
        load(file)


def test_doctor_says_what_can_be_done_with_a_pod(
    api: ApiServerOnLoopback,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command itself, against the server that the pod's variables name; nothing is changed by it."""
    run = tmp_path / "runs/td3"
    (run / "control").mkdir(parents=True)
    (run / "events.out.tfevents.1").write_bytes(scalar("loss", 1, 0.5, time.time()))
    workload = {"kind": "kubernetes", "id": REGISTERED.id, "facts": FACTS}
    trainer = {**asdict(myself()), "host": "td3-x7k2p", "workload": workload}
    (run / "control/trainer.json").write_text(json.dumps(trainer))
    config = tmp_path / "sentinel.toml"
    config.write_text(
        'version = 1\ninclude = ["pack:generic"]\n[trainer]\nlauncher = "kubernetes"\n'
        'resume = "{command} --resume {checkpoint}"\n'
    )
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(api.port))
    monkeypatch.setenv("KUBERNETES_CREDENTIALS", str(tmp_path / "credentials"))
    main(["doctor", "-c", str(config), str(tmp_path / "runs")])
    said, trouble = capsys.readouterr()
    assert not trouble
    assert "kubernetes job training/td3-x7k2p is running" in said
    assert "the job is restarted, [trainer] resume" in said
    assert not api.changes()


def test_a_trainer_that_counts_its_pids_elsewhere_is_out_of_sight(tmp_path: Path) -> None:
    """Two containers of a pod without shareProcessNamespace, in real namespaces: one name, one kernel, and
    the trainer's pid is nobody here, or somebody else. It is neither called dead nor signalled.
    """
    code = f"""import sys
from sentinel.guard import Guard
guard = Guard({str(tmp_path)!r})
sys.stdin.read()"""
    # The shell stays pid 1, as a container's init does.
    shell = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c"]
    probe = subprocess.run([*shell, "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"no namespaces here: {probe.stderr.decode().strip()}")
    inner = f"{sys.executable} -c {shlex.quote(code)}; :"
    trainer = subprocess.Popen([*shell, inner], stdin=subprocess.PIPE)
    try:
        until((tmp_path / "control/trainer.json").exists, "the trainer registers")
        registration = Registration(tmp_path)
        registration.refresh()
        assert registration.process is not None
        assert registration.liveness is Liveness.OTHER_HOST
        assert send(registration.process, signal.SIGUSR2) == "SIGUSR2 not sent: the process is other host"
    finally:
        assert trainer.stdin is not None
        trainer.stdin.close()
        trainer.wait(timeout=20)
