"""Kubernetes: what its API server says, and what is asked of it, over real HTTPS against recorded answers."""

from __future__ import annotations

import itertools
import json
import os
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
import trustme
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rules.source import RuleErrors
from sentinel import guard
from sentinel.cli import _parser, main
from sentinel.clusters import NO_ANSWER, Standing, Workload
from sentinel.clusters.api_server import CREDENTIALS, Answer, ApiServer, read_answer
from sentinel.clusters.kubernetes import Kubernetes, judge
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
    status,
)
from tests.e2e.scene import until
from tests.sentinel.event_files import scalar

MANIFEST = Path(__file__).parents[2] / "examples/kubernetes/train.yaml"
FACTS = {"pod_uid": POD_UID, "job": "td3", "job_uid": JOB_UID}
REGISTERED = Workload("kubernetes", "training/td3-x7k2p", 1000, 1763640534.0, FACTS)
BESIDE = pod(uid=NEXT_UID, name="td3-1", creationTimestamp="2025-11-20T12:08:50Z")["metadata"]
FIELDS = (
    *("metadata", "status", "spec", "uid", "ownerReferences", "kind", "controller", "phase", "items"),
    *("containers", "command", "args", "env", "securityContext", "runAsUser", "conditions", "backoffLimit"),
    *("podFailurePolicy", "rules", "message", "details", "causes", "startTime", "creationTimestamp"),
    *("deletionTimestamp", "parallelism", "podReplacementPolicy", "suspend", "failed", "name", "namespace"),
)
"""Of the API's objects, those that are read."""


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
        (pod() | {"spec": {"securityContext": {"runAsUser": 0}, "containers": [{}]}}, Standing.FOREIGN),
        (pod() | {"spec": {"containers": [{}, {"securityContext": {"runAsUser": 0}}]}}, Standing.RUNNING),
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
        (job(), [pod(uid=NEXT_UID, name="td3-1") | {"metadata": BESIDE}], Standing.HELD),
        (job() | {"metadata": {"uid": NEXT_UID, "name": "td3"}}, [], Standing.ENDED),
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


@pytest.mark.parametrize(
    "trouble",
    [
        *("hangs up", "trickles", "refuses", "no token", "not ours", "another's", "forbidden", "budget"),
        *("redirect", "echo"),
    ],
)
def test_a_server_that_gives_no_answer_ends_nothing(
    trouble: str, api: ApiServerOnLoopback, cluster: Kubernetes, tmp_path: Path
) -> None:
    """The job is unknown then; the reason is told on one line, and the token stands nowhere in it."""
    match trouble:
        case "hangs up":
            api.hangs.set()
        case "trickles":
            api.trickles.set()
            cluster = Kubernetes(ApiServer("127.0.0.1", api.port, tmp_path / "credentials", 0.3))
        case "another's":
            trustme.CA().cert_pem.write_to_path(str(tmp_path / "credentials/ca.crt"))
        case "redirect":
            api.say("GET", api.pod, (307, {}, {"Location": f"https://127.0.0.1:{api.port}{api.job}"}))
        case "echo":
            echo = status(500, "InternalError", f"bad header\x1b]0;x\x07\nBearer {TOKEN}")
            api.say("GET", api.pod, (500, echo, {"Retry-After": TOKEN}))
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
    assert seen.words.isprintable()
    assert ("holds no token" in seen.words) is (trouble == "not ours"), "it is not even sent"
    assert not [path for _, path, _, _ in api.asked if path == api.job], "no redirect is followed"
    assert "a-service-accounts-token" not in seen.words
    assert cluster.restart(REGISTERED).startswith("not evicted")
    assert cluster.end(REGISTERED).startswith("not ended")
    assert not api.changes()


def test_a_server_that_trickles_holds_nobody(
    api: ApiServerOnLoopback, cluster: Kubernetes, tmp_path: Path
) -> None:
    """A byte now and then is no answer: the whole request has one patience, and is made again later."""
    api.trickles.set()
    began = time.monotonic()
    said = ApiServer("127.0.0.1", api.port, tmp_path / "credentials", 0.3)("GET", api.pod)
    assert time.monotonic() - began < 5
    assert said.trouble == f"the API server at 127.0.0.1:{api.port} {NO_ANSWER} within 0.3 s"
    api.trickles.clear()
    assert cluster.look(REGISTERED).standing is Standing.RUNNING


@pytest.mark.parametrize("content", [b"", b'{"kind": "Sta', b"[]"])
def test_an_answer_that_is_cut_off_is_none(content: bytes) -> None:
    """The eviction may have been taken: it is asked for again, and what was written for it stays."""
    assert NO_ANSWER in read_answer(201, {}, content).trouble


@given(
    answers=st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=3), inner, max_size=6)
            ),
            max_leaves=20,
        ),
        min_size=1,
        max_size=4,
    ),
    code=st.sampled_from([200, 201, 404, 409, 429, 500]),
)
def test_whatever_a_server_answers_nothing_is_raised(answers: list[Any], code: int) -> None:
    """Fields of any type, in any place: a call on the thread of the clusters must not end that."""
    given_out = itertools.cycle(answers)

    def api(method: str, path: str, body: object = None) -> Answer:
        return read_answer(code, {}, json.dumps(next(given_out)).encode())

    cluster = Kubernetes(api)
    for call in (cluster.look, cluster.restart, cluster.restartable, cluster.end):
        call(REGISTERED)


@given(
    of=st.sampled_from(["spec", "status", "metadata"]),
    field=st.sampled_from(FIELDS),
    odd=st.sampled_from([None, 3, "x", True, [], {}, [3], {"x": 3}, [None], [{"type": 3}], 1e400]),
)
def test_one_odd_field_raises_nothing(of: str, field: str, odd: object) -> None:
    """As above, close to what a server answers."""
    answers = {"pod": pod(), "job": job()}
    for body in answers.values():
        body[of] = {**body[of], field: odd}

    def api(method: str, path: str, body: object = None) -> Answer:
        if "?" in path:
            return Answer(200, {"items": [answers["pod"], odd]})
        return Answer(200, answers["job" if "/jobs/" in path else "pod"])

    cluster = Kubernetes(api)
    for workload in (REGISTERED, Workload("kubernetes", REGISTERED.id)):
        for call in (cluster.look, cluster.restart, cluster.restartable, cluster.end):
            call(workload)


def test_the_sentinels_own_pod_is_named_self(api: ApiServerOnLoopback, tmp_path: Path) -> None:
    """A sidecar cannot know its pod's name when its configuration is written; its manifest tells it."""
    myself = Workload("kubernetes", "self", 1000)
    server = ApiServer("127.0.0.1", api.port, tmp_path / "credentials")
    seen = Kubernetes(server, "training/td3-x7k2p").look(myself)
    assert (seen.standing, seen.now and seen.now.id) == (Standing.RUNNING, "training/td3-x7k2p")
    assert seen.now is not None
    assert Kubernetes(server, "training/td3-x7k2p").restartable(seen.now) == ""
    lost = Kubernetes(server).look(myself)
    assert (lost.standing, "POD_NAME" in lost.words) == (Standing.UNKNOWN, True)


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
    assert ("td3 needs 1 healthy" in said) is again
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
        (
            {"pod": pod() | {"spec": {"containers": [{"args": ['. "$run/control/resume.sh"']}]}}},
            "not told POD_UID and JOB_UID",
        ),
        ({"job": job(podReplacementPolicy="TerminatingOrFailed")}, "while this one still trains"),
        ({"job": job(parallelism=2)}, "several pods at once"),
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
    assert (method, body and body["deleteOptions"]["gracePeriodSeconds"]) == ("POST", 1)


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
    assert sidecar["securityContext"] == train["securityContext"], "else /proc/PID/fd is closed to one"
    assert "runAsUser" not in sidecar["securityContext"]
    assert sidecar["restartPolicy"] == "Always"
    asked = _parser().parse_args(sidecar["command"][1:])
    assert asked.act
    mounts = [
        {m["name"]: m["mountPath"] for m in container["volumeMounts"]} for container in (sidecar, train)
    ]
    assert mounts[0]["runs"] == mounts[1]["runs"]
    assert asked.state.is_relative_to(mounts[0]["runs"]), "or the next pod's sentinel knows nothing"
    assert mounts[0]["account"] == str(CREDENTIALS)
    assert not spec["automountServiceAccountToken"], "the training has no use for a token"
    assert "account" not in mounts[1]
    file = tmp_path / "sentinel.toml"
    file.write_text(by_kind["ConfigMap"]["data"]["sentinel.toml"])
    trainer = load(file).service.trainer
    assert (trainer.launcher, trainer.jobs) == ("kubernetes", {asked.logdir.name: "self"})
    assert {"POD_NAME", "POD_NAMESPACE"} <= {entry["name"] for entry in sidecar["env"]}
    (names,) = [rule["resourceNames"] for rule in by_kind["Role"]["rules"] if rule["resources"] == ["jobs"]]
    assert names == [by_kind["Job"]["metadata"]["name"]]
    told = {entry["name"] for entry in train["env"]}
    assert told == {"POD_NAME", "POD_NAMESPACE", "POD_UID", "JOB_NAME", "JOB_UID"}


@pytest.mark.parametrize(
    ("finished", "age", "lives"),
    [("null", 0, True), ("null", 400, False), ("1.5", 400, True), (None, 400, True), ("null", None, True)],
)
def test_the_manifests_probe_ends_a_sentinel_that_stands_still(
    finished: str | None, age: float | None, lives: bool, tmp_path: Path
) -> None:
    """In a real shell: an old heartbeat beside a trainer that has not finished; nothing else is a reason."""
    control = tmp_path / "control"
    control.mkdir()
    if finished is not None:
        (control / "trainer.json").write_text(f'{{"pid": 7, "finished_at": {finished}, "outcome": null}}')
    if age is not None:
        (control / "sentinel.json").write_text("{}")
        os.utime(control / "sentinel.json", (time.time() - age,) * 2)
    (pod_spec,) = [d["spec"]["template"]["spec"] for d in documents() if d["kind"] == "Job"]
    *shell, probe = pod_spec["initContainers"][0]["livenessProbe"]["exec"]["command"]
    done = subprocess.run([*shell, probe.replace("/runs/td3", str(tmp_path))], check=False)
    assert (done.returncode == 0) is lives


def test_a_terminate_is_for_good_and_an_eviction_is_not() -> None:
    """The Job's rules are asked in order: a disruption first, which an eviction is; then how it ended."""
    (spec,) = [d["spec"] for d in documents() if d["kind"] == "Job"]
    disrupted, ended = spec["podFailurePolicy"]["rules"]
    assert (disrupted["action"], ended["action"]) == ("Ignore", "FailJob")
    assert ended["onExitCodes"]["values"] == [128 + signal.SIGKILL, 128 + signal.SIGTERM]
    assert ended["onExitCodes"]["containerName"] == spec["template"]["spec"]["containers"][0]["name"]
    assert spec["podReplacementPolicy"] == "Failed"


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
    mine = pod()
    mine["spec"]["securityContext"]["runAsUser"] = os.geteuid()
    api.say("GET", api.pod, (200, mine, {}))
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
