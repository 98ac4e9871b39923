"""What the real client makes of each fault; whoever drives CARLA through it must live with these.

The one fact to hold: these are truths about the client 0.9.16, reproduced with our server. How the stock
server fails was not observed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.carla_server.faults import Faults, described, parse
from tests.carla_server.process import ROOT, CarlaServer, free_port, result_of, with_client

TIMEOUT = 0.6
"""s that the clients of these tests wait for an answer."""
BEFORE = 3
"""Ticks that a test's client has asked for before its own: two by apply_settings, one by spawn."""


def drive_into(port: int) -> dict[str, Any]:
    """Tick until a tick fails, then look at what else still seems to work."""
    import time

    import carla

    from tests.carla_server.client import connect, failing, spawn

    client, world = connect(port)
    car = spawn(world)
    client.set_timeout(TIMEOUT)
    done, message = 0, ""
    while not message:
        try:
            world.tick()
            done += 1
        except RuntimeError as error:
            message = str(error)
    place = car.get_transform().location
    car.apply_control(carla.VehicleControl(throttle=1.0))
    begin = time.monotonic()
    failing(lambda: world.tick(0.1))
    return {
        "done": done,
        "message": message,
        "waited": time.monotonic() - begin,
        "stale": car.get_transform().location == place,
        "destroyed": car.destroy(),
    }


@pytest.mark.parametrize("fault", ["hang", "kill"])
def test_a_server_that_hangs_or_dies_shows_in_the_tick_alone(carla_server: CarlaServer, fault: str) -> None:
    """Controls seem to be applied and transforms to be read; only `tick` fails, after the whole timeout."""
    carla_server.fault(f"{fault}-at={BEFORE + 3}")
    seen = result_of(drive_into, carla_server.port)
    assert seen["done"] == 2
    assert seen["message"].startswith("time-out of 600ms while waiting for the simulator")
    assert seen["waited"] > 0.5, "tick(0.1) waits for the client's own timeout"
    assert seen["stale"]
    assert not seen["destroyed"]
    if fault == "kill":
        assert carla_server.wait() == -signal.SIGKILL
    else:
        assert carla_server.alive()


def with_traffic(port: int, manager_port: int) -> None:
    """Tick with a TrafficManager at work for as long as it goes."""
    import time

    from tests.carla_server.client import connect, spawn

    client, world = connect(port)
    manager = client.get_trafficmanager(manager_port)
    manager.set_synchronous_mode(True)
    spawn(world).set_autopilot(True, manager_port)
    client.set_timeout(TIMEOUT)
    with contextlib.suppress(RuntimeError):
        while True:
            world.tick()
    time.sleep(5.0)  # the manager's own thread notices a little later


def test_a_server_killed_under_a_traffic_manager_takes_the_client_process_with_it(
    carla_server: CarlaServer,
) -> None:
    """Killed while the manager waits for an answer: no exception is raised, the process is ended by a signal.

    Killed in a tick, it is so every second time: it depends on who asks next.
    """
    carla_server.fault("kill-at-batch=5")
    outcome = with_client(with_traffic, carla_server.port, free_port())
    assert outcome.status in {-signal.SIGABRT, -signal.SIGSEGV}, outcome


def outlive(port: int, tried: str) -> dict[str, Any]:
    """Lose a server or never have it, say so, wait for the next one, and try the old client and a new one."""
    import carla

    from tests.carla_server.client import connect, failing

    old = carla.Client("localhost", port)
    old.set_timeout(TIMEOUT)
    failing(lambda: [old.get_world().tick() for _ in range(100)])
    Path(tried).write_text("tried", encoding="ascii")
    _wait_until_listening(port)
    lost = failing(lambda: old.get_world().tick())
    _client, world = connect(port)
    return {"lost": lost, "ticked": world.tick()}


def _wait_until_listening(port: int) -> None:
    import socket
    import time

    for _ in range(1000):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.02)
    raise AssertionError(f"nothing listens on port {port}")


@pytest.mark.parametrize("lost", ["killed", "late"])
def test_a_client_that_lost_its_server_or_came_before_it_never_finds_it_and_a_new_one_does(
    carla_server: CarlaServer, tmp_path: Path, lost: str
) -> None:
    """The same port, a fresh server: only a Client made after it listens reaches it."""
    if lost == "killed":
        carla_server.fault("kill-at=10")
    else:
        carla_server.kill()
    tried = tmp_path / "tried"
    os.mkfifo(tried)

    def start_when_tried() -> None:
        tried.read_text(encoding="ascii")
        carla_server.kill()
        carla_server.start("listen-after=0.3")

    threading.Thread(target=start_when_tried, daemon=True).start()
    seen = result_of(outlive, carla_server.port, str(tried))
    assert seen["lost"].startswith("time-out of 600ms")
    assert seen["ticked"] > 0


def retry(port: int) -> list[int]:
    """Tick on after a tick has timed out."""
    import time

    from tests.carla_server.client import connect, failing

    client, world = connect(port)
    before = world.tick()
    client.set_timeout(TIMEOUT)
    failing(world.tick)
    time.sleep(0.5)
    return [before, world.tick()]


def test_a_tick_that_timed_out_is_carried_out_all_the_same(carla_server: CarlaServer) -> None:
    """After a pause the world is a step further than a client thinks that simply ticks again."""
    carla_server.fault("pause-at=4,pause-for=0.9")
    before, after = result_of(retry, carla_server.port)
    assert after == before + 2


def images(port: int, ticks: int) -> dict[str, Any]:
    """Say which of a camera's first frames came, and which of them long after their tick."""
    import time

    import carla

    from tests.carla_server.client import attach, connect, spawn

    _client, world = connect(port)
    car = spawn(world)
    pose = carla.Transform(carla.Location(x=2.0, z=1.5))
    arrived: dict[int, float] = {}
    camera = attach(world, car, "sensor.camera.rgb", pose, image_size_x=32, image_size_y=32)
    camera.listen(lambda image: arrived.setdefault(image.frame, time.monotonic()))
    time.sleep(0.3)  # until it listens; a first image may else be lost without any fault
    returned = {}
    for _ in range(ticks):
        returned[world.tick()] = time.monotonic()
    time.sleep(0.5)
    first = min(returned)
    return {
        "came": [frame - first for frame in sorted(arrived)],
        "late": [frame - first for frame, at in sorted(arrived.items()) if at - returned[frame] > LATE / 2],
    }


LATE = 0.2
"""s."""


@pytest.mark.parametrize(
    ("faults", "came", "late"),
    [
        ("first-image-lost", [1, 2, 3, 4], []),
        (f"image-lost-at={BEFORE + 3}", [0, 1, 3, 4], []),
        (f"images-end-at={BEFORE + 4}", [0, 1, 2], []),
        (f"image-late={LATE},image-late-every=4", [0, 1, 2, 3, 4], [0, 4]),
    ],
)
def test_images_are_lost_or_late_where_the_fault_says(
    carla_server: CarlaServer, faults: str, came: list[int], late: list[int]
) -> None:
    """`tick` returns in time all the same; only the frame number of an image tells what it shows."""
    carla_server.fault(faults)
    seen = result_of(images, carla_server.port, 5)
    assert seen["came"] == came
    assert set(late) <= set(seen["late"])


def settle(port: int) -> dict[str, Any]:
    """Connect and read what the server made of it."""
    from tests.carla_server.client import connect, failing, spawn

    client, world = connect(port, timeout=5.0)
    failures = [failing(lambda: spawn(world)) for _ in range(2)]
    spawn(world)
    before = world.get_snapshot().timestamp.elapsed_seconds
    world.tick()
    snapshot = world.get_snapshot().timestamp
    return {
        "version": client.get_server_version(),
        "settings": world.get_settings().synchronous_mode,
        "failures": failures,
        "step": [snapshot.delta_seconds, snapshot.elapsed_seconds - before],
    }


def test_another_version_and_failed_spawns_are_survived(carla_server: CarlaServer) -> None:
    """The client only warns of the version; a spawn that failed may be tried again."""
    carla_server.fault("version=0.9.15,spawn-failure=2,wrong-delta=0.25")
    outcome = with_client(settle, carla_server.port)
    assert outcome.status == 0, outcome
    assert "Version mismatch detected" in outcome.output
    seen = outcome.result
    assert seen["version"] == "0.9.15"
    assert seen["failures"] == ["Spawn failed because of collision at spawn position"] * 2
    assert seen["settings"]
    assert seen["step"] == pytest.approx([0.25, 0.25]), (
        "a wrong step shows in the snapshot, not in the settings"
    )


def insist(port: int) -> dict[str, Any]:
    """Ask for synchronous mode, then for another map."""
    from tests.carla_server.client import connect, failing

    client, world = connect(port)
    client.set_timeout(TIMEOUT)
    return {
        "mode": world.get_settings().synchronous_mode,
        "load": failing(lambda: client.load_world("Road1")),
    }


def test_settings_that_are_not_taken_are_only_warned_of(carla_server: CarlaServer) -> None:
    """`apply_settings` raises nothing: who needs them reads them back. A load that hangs times out."""
    carla_server.fault("settings-ignored,load-hangs")
    outcome = with_client(insist, carla_server.port)
    assert outcome.status == 0, outcome
    assert "the settings were not correctly set" in outcome.output
    assert not outcome.result["mode"]
    assert outcome.result["load"].startswith("time-out of 600ms")


@given(
    st.text() | st.lists(st.sampled_from([*described(), "hang-at=3", "pause-for=1.5", "x=1"])).map(",".join)
)
def test_faults_are_read_or_refused(text: str) -> None:
    """Nothing else happens, whatever the text."""
    with contextlib.suppress(ValueError):
        assert isinstance(parse(text), Faults)


def test_faults_are_what_they_say() -> None:
    """Each kind of value is read as its own kind."""
    assert parse("") == Faults()
    assert parse("hang-at=3, first-image-lost,image-late=0.5,version=1") == Faults(
        hang_at=3, first_image_lost=True, image_late=0.5, version="1"
    )
    for wrong in ("hang", "hang-at", "first-image-lost=1", "hang-at=soon"):
        with pytest.raises(ValueError, match=r"fault|int"):
            parse(wrong)


def test_help_tells_what_the_server_can_do() -> None:
    """Every fault is in it, and what was and was not tested."""
    command = [sys.executable, "-m", "tests.carla_server", "--help"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(f"  {name} " in text for name in described())
    assert "not run\nagainst the Unreal server" in text
