"""The watcher is watched: by systemd over a real socket, and by a dead man's switch over a real server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rules.source import RuleErrors
from sentinel.config import load
from sentinel.ping import EVERY, Ping
from sentinel.systemd import Supervisor, unit
from tests.e2e.scene import until

SECRET = "d34db33f-cafe"


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.bind(str(tmp_path / "notify"))
        found.settimeout(10)
        yield found


def test_systemd_hears_what_it_wants_to(listener: socket.socket) -> None:
    """One datagram a word, in the protocol of sd_notify."""
    ours = Supervisor({"NOTIFY_SOCKET": listener.getsockname()})
    ours.ready()
    ours.alive()
    ours.alive("the disk is full\nand more")
    ours.stopping()
    assert [listener.recv(4096).decode() for _ in range(4)] == [
        "READY=1\nSTATUS=watching",
        "WATCHDOG=1\nSTATUS=watching",
        "WATCHDOG=1\nSTATUS=the disk is full",
        "STOPPING=1",
    ]


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nowhere"}, {"NOTIFY_SOCKET": "@nobody"}])
def test_where_nobody_listens_nothing_fails(environment: dict[str, str]) -> None:
    """No socket, one that is gone, an abstract one without a listener."""
    Supervisor(environment).ready()


def test_a_full_socket_delays_nothing(listener: socket.socket) -> None:
    """A systemd that does not read costs words, not ticks."""
    ours = Supervisor({"NOTIFY_SOCKET": listener.getsockname()})
    for _ in range(5000):
        ours.alive()


def test_the_unit_file_says_how_it_is_run(tmp_path: Path) -> None:
    """A path with spaces and with systemd's own signs arrives as it is; training is not ended with us."""
    text = unit(["--act", "/data/my runs/100%$x"], tmp_path)
    assert "Type=notify" in text
    assert "WatchdogSec=" in text
    assert "KillMode=process" in text, "the training may be started by us, and must not end with us"
    assert "--act '/data/my runs/100%%$$x'" in text


class Switch(ThreadingHTTPServer):
    """A dead man's switch; it hangs while `free` is not set."""

    daemon_threads = True

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.free = threading.Event()
        self.free.set()
        super().__init__(("127.0.0.1", 0), _Answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{SECRET}"


class _Answer(BaseHTTPRequestHandler):
    server: Switch

    def do_GET(self) -> None:
        self.server.seen.append(self.path)
        self.server.free.wait(20)
        self.send_response(404 if "wrong" in self.path else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Say nothing."""


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Switch]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    found = Switch()
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield found
    found.free.set()
    found.shutdown()
    thread.join()
    found.server_close()


def test_it_pings_while_it_sees_and_only_then(switch: Switch) -> None:
    """Once a minute; a sentinel that is blind lets the switch go off."""
    ping = Ping(switch.url)
    ping.look(0.0, sees=False)
    ping.look(1.0, sees=True)
    until(lambda: len(switch.seen) == 1, "the first ping")
    ping.look(1.0 + EVERY - 0.5, sees=True)
    ping.look(1.0 + EVERY, sees=False)
    ping.look(2.0 + EVERY, sees=True)
    until(lambda: len(switch.seen) == 2, "the second ping")
    ping.close()


def test_a_server_that_hangs_delays_no_tick(switch: Switch) -> None:
    """`look` returns at once, a hundred times, while one ping is under way."""
    switch.free.clear()
    ping = Ping(switch.url)
    for minute in range(100):
        ping.look(minute * EVERY, sees=True)
    until(lambda: switch.seen, "the ping is under way")
    assert len(switch.seen) == 1
    ping.close()


@pytest.mark.parametrize("path", ["wrong", "refused"])
def test_trouble_is_told_without_the_address(switch: Switch, path: str) -> None:
    """The address appears in no word of ours: not in the trouble, not in a repr."""
    url = f"{switch.url}/wrong" if path == "wrong" else f"http://127.0.0.1:9/{SECRET}"
    ping = Ping(url)
    ping.look(0.0, sees=True)
    until(lambda: ping.trouble, "it has failed")
    assert SECRET not in ping.trouble + repr(ping)
    ping.close()


@pytest.mark.parametrize("address", [f"ftp://x/{SECRET}", f"https://x/{SECRET}"])
def test_no_error_and_no_repr_holds_the_address(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong one is named by its place alone; a right one is masked wherever the settings are shown."""
    path = tmp_path / "sentinel.toml"
    path.write_text(f'version = 1\ninclude = ["pack:generic"]\n[sentinel]\nping_url = "{address}"\n')
    if address.startswith("ftp"):
        with pytest.raises(RuleErrors) as wrong:
            load(path)
        told = "\n".join(problem.render() for problem in wrong.value.problems)
        assert "sentinel.toml:4" in told
        assert "https://" in told
        assert SECRET not in told + repr(wrong.value) + str(wrong.value)
        return
    settings = load(path)
    assert settings.ping_url == address
    assert SECRET not in repr(settings) + str(settings.service) + settings.service.model_dump_json()
    path.write_text('version = 1\ninclude = ["pack:generic"]\n[sentinel]\nping_url_env = "OUR_SWITCH"\n')
    assert load(path).ping_url is None
    monkeypatch.setenv("OUR_SWITCH", address)
    assert load(path).ping_url == address
