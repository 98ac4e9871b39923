"""`python -m trainer doctor --carla`: a table of findings and an exit code, whatever the server does."""

from __future__ import annotations

import json
import sys

import pytest

from tests.carla_server.process import free_port, running, why_not
from trainer.__main__ import main
from trainer.carla_doctor import Finding, examine


def told(*lines: dict[str, str], then: str = "") -> list[Finding]:
    """What is made of a process that says these lines and then does something."""
    script = (
        "".join(f"print({json.dumps(line)!r}, flush=True);" for line in lines) + f"import os, time; {then}"
    )
    return list(examine([sys.executable, "-c", script], deadline=1.0))


def test_a_fit_server_passes_every_check(capfd: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, and a line for each of the twelve."""
    with running() as server:
        code = main(
            ["doctor", "--carla", "--carla-port", str(server.port), "--town", "Road0", "--tm-port", "18300"]
        )
    out = capfd.readouterr().out
    assert code == 0, out
    assert "12 of 12 checks passed" in out
    assert out.count("\nok  ") == 12


def test_a_server_that_is_not_there_fails_the_first_check(capfd: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, at once, and nothing after it is tried."""
    if reason := why_not():
        pytest.skip(reason)
    assert main(["doctor", "--carla", "--carla-port", str(free_port())]) == 1
    out = capfd.readouterr().out
    assert "FAIL  connects" in out
    assert "no CARLA server at localhost" in out
    assert "0 of 1 checks passed" in out


def test_a_server_that_hangs_or_is_of_another_version_is_found_out(capfd: pytest.CaptureFixture[str]) -> None:
    """The finding is the check's that was under way."""
    with running("version=0.9.15") as server:
        assert main(["doctor", "--carla", "--carla-port", str(server.port)]) == 1
    assert "of version 0.9.15" in capfd.readouterr().out
    with running("hang-at=30") as server:
        arguments = ["--carla-port", str(server.port), "--town", "Road0", "--carla-timeout", "1"]
        assert main(["doctor", "--carla", *arguments]) == 1
    out = capfd.readouterr().out
    assert out.count("FAIL") == 1
    # The client says so itself, or aborts, as it may when a server stops answering under its TrafficManager.
    assert "time-out of 1000ms" in out or "ended by signal 6" in out


def test_a_process_that_aborts_hangs_or_stumbles_is_a_finding() -> None:
    """The client's own ways to fail, without a client."""
    begins, passes = {"begins": "ticks"}, {"passes": "20"}
    assert told(begins, passes) == [Finding("ticks", passed=True, found="20")]
    assert told(begins, {"fails": "slow"}, begins, passes) == [
        Finding("ticks", passed=False, found="slow"),
        Finding("ticks", passed=True, found="20"),
    ]
    (aborted,) = told(begins, then="os.abort()")
    assert (aborted.check, aborted.passed) == ("ticks", False)
    assert "by signal 6" in aborted.found
    (hung,) = told(begins, then="time.sleep(60)")
    assert hung == Finding("ticks", passed=False, found="no end within 1 s")
    assert told(begins, passes, then="os._exit(3)")[-1].found == "the client's process ended with exit code 3"


def test_without_a_client_nothing_is_checked(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and what to install; an unknown flag is argparse's own 2."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert main(["doctor", "--carla"]) == 2
    assert "pip install 'training-sentinel[carla]'" in capfd.readouterr().err
    assert main(["--env", "carla"]) == 2
    assert "pip install 'training-sentinel[carla]'" in capfd.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 2
