"""What the tests do with the real client; imported in child processes only, since it imports carla."""

from __future__ import annotations

import queue
from typing import Any

import carla

TICK = 0.1
"""s a step."""


def connect(port: int, *, timeout: float = 10.0, dt: float = TICK) -> tuple[Any, Any]:
    """Return a client and its world in synchronous mode."""
    client = carla.Client("localhost", port, worker_threads=4)
    client.set_timeout(timeout)
    world = client.get_world()
    synchronous(world, dt)
    return client, world


def synchronous(world: Any, dt: float = TICK) -> None:
    """Let time wait for ticks."""
    settings = world.get_settings()
    settings.synchronous_mode, settings.fixed_delta_seconds = True, dt
    world.apply_settings(settings)


def spawn(world: Any, point: int = 0, kind: str = "vehicle.tesla.model3") -> Any:
    """Spawn a vehicle on a recommended spawn point; it is there after a tick."""
    car = world.spawn_actor(
        world.get_blueprint_library().find(kind), world.get_map().get_spawn_points()[point]
    )
    world.tick()
    return car


def attach(world: Any, car: Any, kind: str, pose: Any = None, **attributes: object) -> Any:
    """Attach a sensor to a car and return it. Keep it: the library ends it with its last reference."""
    blueprint = world.get_blueprint_library().find(kind)
    for name, value in attributes.items():
        blueprint.set_attribute(name, str(value))
    return world.spawn_actor(blueprint, pose or carla.Transform(), attach_to=car)


def listen(world: Any, car: Any, kind: str, pose: Any = None, **attributes: object) -> tuple[Any, Any]:
    """Attach a sensor to a car; return it and the queue that its data come to."""
    sensor = attach(world, car, kind, pose, **attributes)
    data: queue.Queue[Any] = queue.Queue()
    sensor.listen(data.put)
    return sensor, data


def camera(world: Any, car: Any, size: int = 84) -> tuple[Any, Any]:
    """Attach the incident's camera, warmed up: frames arrive with every tick."""
    pose = carla.Transform(carla.Location(x=2.0, z=1.5))
    sensor, images = listen(
        world, car, "sensor.camera.rgb", pose, image_size_x=size, image_size_y=size, fov=90
    )
    for _ in range(50):
        frame = world.tick()
        if image_of(images, frame, timeout=0.2) is not None:
            return sensor, images
    raise AssertionError("no image in 50 ticks")


def image_of(images: Any, frame: int, timeout: float = 2.0) -> Any:
    """Return the image of a frame, or None if it does not come."""
    while True:
        try:
            image = images.get(timeout=timeout)
        except queue.Empty:
            return None
        if image.frame >= frame:
            return image if image.frame == frame else None


def failing(work: Any) -> str:
    """Return the message of the RuntimeError that `work()` must raise."""
    try:
        work()
    except RuntimeError as error:
        return str(error)
    raise AssertionError("it did not fail")
