"""The same outcomes from a Ray cluster; a real one, of one node and one core."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest

from sentinel.backtest_ray import _reason
from tests.sentinel.event_files import T0
from tests.sentinel.scene import encode

MISSING = "import sys; sys.modules['ray'] = None; from sentinel.cli import entry_point; entry_point()"
ENVIRONMENT = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three runs: one that fires, one that is calm, one without a point."""
    for name, values in (("fires", [1.0, float("nan"), 1.0]), ("calm", [1.0, 1.0]), ("empty", [])):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        samples = [("loss", n, T0 + n, value) for n, value in enumerate(values)]
        (folder / "events.out.tfevents.1700000000.t").write_bytes(encode(samples))
    return tmp_path / "runs"


def sentinel(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sentinel", "replay", "--pack", "generic", *arguments]
    env = {**ENVIRONMENT, **environment}
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=110, check=False
    )


def test_without_ray_it_says_how_to_get_it(runs: Path) -> None:
    """Before anything is judged."""
    command = [sys.executable, "-c", MISSING, "replay", "--ray", "auto", str(runs)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "pip install 'training-sentinel[ray]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_cause_is_taken_out_of_what_ray_wraps_around_it() -> None:
    """A report has a line for it and not a page."""
    error = RuntimeError("\x1b[36mray::f()\nTraceback\nModuleNotFoundError: No module named 'sentinel'\n")
    assert _reason(error).endswith("RuntimeError: ModuleNotFoundError: No module named 'sentinel'")


def free_ports(number: int) -> list[int]:
    """Find ports that nobody listens on."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A cluster of one node in processes of its own: its address for a driver, and for a client."""
    if find_spec("ray") is None:
        pytest.skip("ray is not installed")
    port, client = free_ports(2)
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=1"]
    command += ["--node-ip-address=127.0.0.1", f"--port={port}", f"--ray-client-server-port={client}"]
    command += ["--include-dashboard=false", "--object-store-memory=100000000", "--disable-usage-stats"]
    written = tmp_path / "ray.log"
    with written.open("wb") as log:
        head = subprocess.Popen(
            command, cwd=tmp_path, env=ENVIRONMENT, stdout=log, stderr=log, start_new_session=True
        )
        try:
            deadline = time.monotonic() + 60
            while b"Ray runtime started" not in written.read_bytes():
                assert head.poll() is None, written.read_text()
                assert time.monotonic() < deadline, "the cluster does not start"
                time.sleep(0.2)
            yield f"127.0.0.1:{port}", f"ray://127.0.0.1:{client}"
        finally:
            head.terminate()  # it ends what it has started
            head.wait(30)


@pytest.mark.slow
def test_a_cluster_gives_what_this_process_gives(runs: Path, cluster: tuple[str, str]) -> None:
    """Line by line, with relative paths too, as a driver and as a client."""
    here = sentinel("--jobs", "1", "--json", "runs", folder=runs.parent)
    assert '"fired"' in here.stdout
    for address in cluster:
        there = sentinel("--ray", address, "--json", "runs", folder=runs.parent)
        assert there.stdout, there.stderr
        assert [json.loads(line) for line in there.stdout.splitlines()] == [
            json.loads(line) for line in here.stdout.splitlines()
        ]
        assert (there.returncode, there.stderr) == (here.returncode, "")


@pytest.mark.slow
def test_no_cluster_is_an_error_and_no_traceback(runs: Path) -> None:
    """It says what to start."""
    if find_spec("ray") is None:
        pytest.skip("ray is not installed")
    nowhere = str(runs.parent)  # where Ray would have noted a cluster of this machine
    (closed,) = free_ports(1)
    for address in ("auto", f"127.0.0.1:{closed}", f"ray://127.0.0.1:{closed}"):
        ended = sentinel("--ray", address, "runs", folder=runs.parent, RAY_TMPDIR=nowhere)
        assert ended.returncode == 2
        assert "ray start --head" in ended.stderr
        assert "Traceback" not in ended.stderr
