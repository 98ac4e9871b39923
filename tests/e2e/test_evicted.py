"""A training that knows nothing of the sentinel, in a pod with it: evicted, started anew, resumed.

Real processes in real namespaces, with the manifest's own commands and the API over HTTPS. What a node does
when a pod is evicted, and its Job afterwards, is done here: SIGTERM to the trainer, then to its sidecar, then
the next pod under another name.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.clusters.api_server import GONE, JOB_UID, NEXT_UID, POD_UID, TOKEN, ApiServerOnLoopback, pod
from tests.e2e import pod as namespaces
from tests.e2e.scene import ROOT, Scene, until

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not sys.platform.startswith("linux") or not namespaces.may(),
    reason="pid and mount namespaces can be made by root alone",
)

MANIFEST = ROOT / "examples/kubernetes/train.yaml"
TRAIN = 'python train.py --logdir "$run"'
REST = '[checkpoints]\nsettle = "200ms"\n\n'
FIRST, SECOND = "td3-x7k2p", "td3-b9q4z"


def test_a_training_without_guard_is_evicted_once_and_resumes_with_another_rate(
    scene: Scene, tmp_path: Path
) -> None:
    """The row, the file, the eviction of that one uid; the next pod's sentinel learns what came of it."""
    api = ApiServerOnLoopback()
    rules = (ROOT / "examples/resume/sentinel.toml").read_text(encoding="utf-8")
    own = '[trainer]\nlauncher = "kubernetes"\njobs = { td3 = "self" }'
    scene.config.write_text(rules.replace("[trainer]", f"{REST}{own}", 1), encoding="utf-8")
    with api.serve(tmp_path / "credentials"):
        scene.environment |= {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "JOB_UID": JOB_UID}
        scene.environment |= {"KUBERNETES_SERVICE_PORT": str(api.port)}
        scene.environment |= {"KUBERNETES_CREDENTIALS": str(tmp_path / "credentials")}
        first = start(scene, api, FIRST, POD_UID)
        until(api.changes, "the pod is evicted")
        resumes = scene.logdir / "td3/control/resume.sh"
        assert resumes.exists(), "what its successor is to run was written before"
        end(first, api)
        second = start(scene, api, SECOND, NEXT_UID)
        until(lambda: "finished at step 150" in scene.said("pod.log"), "it was trained to its end")
        until(lambda: rollbacks(scene)[0]["state"] == "done", "the second sentinel tells what came of it")
        end(second, api)
    (row,) = rollbacks(scene)
    assert row["carrier"] == "cluster"
    assert f"training from step {row['checkpoint_step']} with lr 0.25" in scene.said("pod.log")
    ((method, path, body),) = api.changes()
    assert (method, path.endswith(f"/{FIRST}/eviction")) == ("POST", True)
    assert body is not None
    assert body["deleteOptions"] == {"preconditions": {"uid": POD_UID}}
    assert scene.rows("SELECT attempt FROM runs") == [{"attempt": 1}], "the points behind it were abandoned"
    written = [p for folder in (scene.state, scene.logdir) for p in folder.rglob("*") if p.is_file()]
    assert not [p for p in written if TOKEN.encode() in p.read_bytes()], "the token is in no file"
    assert TOKEN not in scene.said("pod.log")


def start(scene: Scene, api: ApiServerOnLoopback, name: str, uid: str) -> subprocess.Popen[bytes]:
    """Start a pod as the manifest describes it, the sidecar first; the API knows it as running."""
    began = int(time.time()) + 1  # the API tells whole seconds
    until(lambda: time.time() >= began, "the next second")
    stamp = datetime.fromtimestamp(began, UTC).isoformat().replace("+00:00", "Z")
    found = pod(uid=uid, name=name, creationTimestamp=stamp)
    found["spec"]["securityContext"]["runAsUser"] = os.geteuid()
    found["status"]["startTime"] = stamp
    api.say("GET", f"/api/v1/namespaces/training/pods/{name}", (200, found, {}))
    api.say("GET", api.pods, (200, {"kind": "PodList", "items": [found]}, {}))
    run = str(scene.logdir / "td3")
    words = manifest()["containers"][0]["args"][0].replace("/runs/td3", run)
    assert TRAIN in words
    words = words.replace(TRAIN, f'{sys.executable} examples/resume/train.py "$run" --pause 0.03')
    train = ("-c", f"import os; os.execv('/bin/sh', ['sh', '-c', {words!r}])")
    asked = manifest()["initContainers"][0]["command"][1:]
    paths = {"/etc/sentinel/sentinel.toml": scene.config, "/runs/.sentinel": scene.state, "/runs/td3": run}
    sidecar = ("-m", "sentinel", *(str(paths.get(word, word)) for word in asked))
    scene.environment |= {"POD_NAME": name, "POD_NAMESPACE": "training", "POD_UID": uid}
    Path(run).mkdir(exist_ok=True)
    return scene.start("-m", "tests.e2e.pod", *sidecar, "--", *train, log="pod.log")


def end(process: subprocess.Popen[bytes], api: ApiServerOnLoopback) -> None:
    """End a pod as its node does, the trainer first; its name is forgotten."""
    (inner,) = children(process.pid)
    containers = children(inner)
    for container in reversed(containers):  # in the order of their start: the sidecar is the first
        os.kill(container, signal.SIGTERM)
        until(lambda pid=container: not Path(f"/proc/{pid}").exists(), "a container has ended")
    assert process.wait(30) == 0
    api.say("GET", f"/api/v1/namespaces/training/pods/{FIRST}", GONE)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def manifest() -> dict[str, Any]:
    documents = yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8"))
    (spec,) = [each["spec"]["template"]["spec"] for each in documents if each["kind"] == "Job"]
    return dict(spec)


def rollbacks(scene: Scene) -> list[dict[str, Any]]:
    return scene.rows("SELECT * FROM commands WHERE verb = 'rollback'")
