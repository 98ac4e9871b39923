"""A session with a CARLA server: client, synchronous world, TrafficManager, and what was spawned.

The one fact to hold: the order. The port is knocked at before a client is made, maps are loaded before there
is a TrafficManager, that is synchronous before the world is, and at the end the actors go first. Each of
these the other way round hangs or aborts the client. The `carla` module is passed in (carla_world.py).
"""

from __future__ import annotations

import difflib
import os
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from trainer.driving.isolated import LOST
from trainer.driving.world import SimulatorFaultError

CONNECT, LOAD = 3.0, 120.0
"""s for the port to open, and for a map to load."""

ROLE = "training-sentinel"
"""role_name of what we spawn: what a killed run has left is known by it, and nobody else's is touched."""


@contextmanager
def answered(what: str) -> Iterator[None]:
    """Turn what the client raises into a fault that says what was being done."""
    try:
        yield
    except SimulatorFaultError:
        raise
    except (RuntimeError, IndexError) as error:
        raise SimulatorFaultError(f"{what}: {error}") from error


class Session:
    """A client, its world in synchronous mode, its TrafficManager, and what it has spawned.

    Args:
        carla: the module. traffic: whether there will be cars for a TrafficManager. rendering: whether
        anybody looks. dt: s a tick. timeout: s for an answer. The others as in `CarlaWorld`.

    Raises:
        SimulatorFaultError: the server is not there, or does not answer.
        ValueError: it is of another version, or has no such town or weather.
    """

    def __init__(
        self,
        carla: Any,
        *,
        host: str,
        port: int,
        tm_port: int,
        town: str,
        weather: str,
        traffic_seed: int,
        traffic: bool,
        dt: float,
        rendering: bool,
        timeout: float,
    ) -> None:
        self.carla = carla
        self.dt, self.tm_port, self.timeout = dt, tm_port, timeout
        self.frame = -1
        self.spawned: list[Any] = []
        self.traffic_manager: Any = None
        self.client = connect(self.carla, host, port, timeout)
        with answered(f"opening the world of {host}:{port}"):
            self.world = self._load(town)
            self._clear()
            if weather:
                self.world.set_weather(self._weather(weather))
            if traffic:
                self._begin_traffic(traffic_seed)
            settings = self.world.get_settings()
            settings.synchronous_mode, settings.fixed_delta_seconds = True, dt
            settings.no_rendering_mode = not rendering
            self.world.apply_settings(settings)
            self.map = self.world.get_map()
        self.snapshot = self.tick()
        delta = self.snapshot.timestamp.delta_seconds
        if abs(delta - dt) > 1e-3:
            raise SimulatorFaultError(f"the server steps by {delta:g} s, it was told {dt:g} s")

    def tick(self) -> Any:
        """Let one step pass and return its snapshot.

        Raises:
            SimulatorFaultError: no answer, or a snapshot of another frame than was ticked.
        """
        with answered("tick"):
            frame = int(self.world.tick(self.timeout))
            self.snapshot = self.world.get_snapshot()
        if not self.frame < frame == self.snapshot.frame:
            raise SimulatorFaultError(
                f"tick {frame} after {self.frame} has the state of frame {self.snapshot.frame};"
                " does another client tick this server?"
            )
        self.frame = frame
        return self.snapshot

    def spawn(self, kind: str, where: Any, parent: Any = None, **attributes: object) -> Any:
        """Spawn an actor of ours, which `close` destroys; None where the place is taken."""
        blueprint = self.world.get_blueprint_library().find(kind)
        for name, value in {"role_name": ROLE, **attributes}.items():
            if blueprint.has_attribute(name):
                blueprint.set_attribute(name, str(value))
        actor = self.world.try_spawn_actor(blueprint, where, attach_to=parent)
        if actor is not None:
            self.spawned.append(actor)
        return actor

    def destroy(self, actor: Any) -> None:
        """Destroy one actor of ours before the end."""
        self.spawned.remove(actor)
        self._destroy([actor])

    def reload(self) -> None:
        """Load the map anew: all actors are gone, the settings stay."""
        self.spawned = []
        self.client.set_timeout(LOAD)
        with answered("loading the map anew"):
            # With `True` the settings would go back to asynchronous under a TrafficManager that ticks.
            self.world = self.client.reload_world(False)  # noqa: FBT003  # the client's own signature
        self.client.set_timeout(self.timeout)

    def close(self) -> None:
        """Destroy what is ours, end the TrafficManager's and the world's synchronous mode: in this order.

        The tick between tells the TrafficManager that the cars are gone; else it asks for them, and aborts.
        """
        self._destroy(self.spawned)
        self.spawned = []
        with suppress(RuntimeError):  # a server that is gone keeps nothing that could be tidied up
            if self.traffic_manager is not None:
                self.tick()
                self.traffic_manager.set_synchronous_mode(False)
                # Else the server sends the next client to this port, which looks for us there for seconds.
                self.traffic_manager.shut_down()
            settings = self.world.get_settings()
            settings.synchronous_mode, settings.fixed_delta_seconds = False, None
            settings.no_rendering_mode = False
            self.world.apply_settings(settings)

    def _load(self, town: str) -> Any:
        world = self.client.get_world()
        if not town or short(world.get_map().name) == town:
            return world
        towns = sorted(short(name) for name in self.client.get_available_maps())
        if town not in towns:
            raise ValueError(unknown("town", town, towns))
        # A reload with a TrafficManager out of step aborts the client: none has been made yet.
        self.client.set_timeout(LOAD)
        world = self.client.load_world(town)
        self.client.set_timeout(self.timeout)
        return world

    def _clear(self) -> None:
        """Destroy what a run that was killed has left, and let a world go on that waits for its ticks."""
        settings = self.world.get_settings()
        if settings.synchronous_mode:
            settings.synchronous_mode, settings.fixed_delta_seconds = False, None
            self.world.apply_settings(settings)
        self.world.wait_for_tick(self.timeout)
        left = [actor for actor in self.world.get_actors() if actor.attributes.get("role_name") == ROLE]
        if left:
            print(f"carla: {len(left)} actors that an earlier run has left are destroyed", file=sys.stderr)
            self._destroy(left)
            self.world.wait_for_tick(self.timeout)  # or a TrafficManager asks for them, and aborts

    @staticmethod
    def _destroy(actors: Sequence[Any]) -> None:
        """Destroy sensors before what carries them."""
        for actor in sorted(actors, key=lambda actor: not actor.type_id.startswith("sensor.")):
            # Only the handle that it was made by listens; a stream left open at the end aborts the client.
            with suppress(RuntimeError):  # one that is gone already is what was wanted
                if actor.type_id.startswith("sensor.") and actor.is_listening():
                    actor.stop()
                actor.destroy()

    def _weather(self, name: str) -> Any:
        presets = self.carla.WeatherParameters
        names = [n for n in dir(presets) if isinstance(getattr(presets, n), presets)]
        if name not in names:
            raise ValueError(unknown("weather", name, names))
        return getattr(presets, name)

    def _begin_traffic(self, seed: int) -> None:
        with answered(f"the TrafficManager on port {self.tm_port}; is the port taken? (--tm-port)"):
            manager = self.client.get_trafficmanager(self.tm_port)
            manager.set_synchronous_mode(True)
            manager.set_random_device_seed(seed)
        self.traffic_manager = manager


def watch(host: str, port: int) -> None:
    """End this process when the server's does, which a connection that nothing is sent on tells at once.

    The client itself would go on waiting for its timeout; and with a TrafficManager it aborts then.
    """

    def wait(line: socket.socket) -> None:
        with suppress(OSError):
            while line.recv(1):
                pass
        os._exit(LOST)

    try:
        line = socket.create_connection((host, port), CONNECT)
    except OSError as error:
        raise SimulatorFaultError(f"no CARLA server at {host}:{port}: {error.strerror or error}") from None
    line.settimeout(None)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    threading.Thread(target=wait, args=(line,), daemon=True, name="carla-watch").start()


def connect(carla: Any, host: str, port: int, timeout: float) -> Any:
    """Return a client of a server that answers and is of the client's version.

    The port is knocked at first: a client that is made before its server listens never recovers.
    """
    try:
        socket.create_connection((host, port), CONNECT).close()
    except OSError as error:
        raise SimulatorFaultError(f"no CARLA server at {host}:{port}: {error.strerror or error}") from None
    with answered(f"{host}:{port} does not answer as a CARLA server does"):
        client = carla.Client(host, port, worker_threads=8)
        client.set_timeout(timeout)
        server, ours = client.get_server_version(), client.get_client_version()
    if server.split("-")[0] != ours.split("-")[0]:
        raise ValueError(
            f"the CARLA server at {host}:{port} is of version {server}, the client of {ours}: their messages"
            f" differ; install the client of the server's version or start a server {ours}"
        )
    return client


def short(name: str) -> str:
    """Return the last part of a map's name: Carla/Maps/Town01 is Town01."""
    return name.rsplit("/", 1)[-1]


def unknown(what: str, name: str, known: Sequence[str]) -> str:
    """Say that a name is not known, and which are."""
    near = difflib.get_close_matches(name, known, 1, 0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"the CARLA server has no {what} {name!r}; {hint}it has {', '.join(known)}"
