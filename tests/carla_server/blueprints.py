"""What can be spawned: vehicles of one size, a camera, a collision sensor, a lane-invasion sensor.

The one fact to hold: every vehicle has the embedded world's car as its body, whatever its name says. The
names are stock CARLA's, so that a client that asks for a stock car gets one.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.carla_server.wire import Wire

BOOL, INT, FLOAT, STRING, COLOUR = 1, 2, 3, 4, 5

CAMERA, COLLISION_SENSOR, LANE_INVASION_SENSOR = (
    "sensor.camera.rgb",
    "sensor.other.collision",
    "sensor.other.lane_invasion",
)
SPECTATOR = "spectator"


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute of a blueprint: its type on the wire, its value, and what else is recommended."""

    name: str
    kind: int
    value: str
    recommended: tuple[str, ...] = ()
    modifiable: bool = True

    def definition(self) -> Wire:
        """Return it as an ActorAttribute."""
        return [self.name, self.kind, self.value, [*self.recommended], self.modifiable, False]


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A kind of actor."""

    uid: int
    name: str
    attributes: tuple[Attribute, ...] = ()

    def definition(self) -> Wire:
        """Return it as an ActorDefinition."""
        tags = ",".join(self.name.split("."))
        return [self.uid, self.name, tags, [attribute.definition() for attribute in self.attributes]]

    def description(self) -> Wire:
        """Return an ActorDescription with every attribute as the blueprint has it."""
        return [self.uid, self.name, [[a.name, a.kind, a.value] for a in self.attributes]]


def _vehicle(uid: int, name: str, colour: str) -> Blueprint:
    return Blueprint(
        uid,
        f"vehicle.{name}",
        (
            Attribute("base_type", STRING, "car", modifiable=False),
            Attribute("color", COLOUR, colour, (colour, "20,20,20", "220,220,220")),
            Attribute("generation", INT, "2", modifiable=False),
            Attribute("has_lights", BOOL, "false", modifiable=False),
            Attribute("number_of_wheels", INT, "4", modifiable=False),
            Attribute("role_name", STRING, "autopilot", ("autopilot", "scenario", "ego_vehicle")),
            Attribute("special_type", STRING, "", modifiable=False),
            Attribute("sticky_control", BOOL, "true"),
        ),
    )


_SENSOR = (Attribute("role_name", STRING, "front"),)

BLUEPRINTS = (
    _vehicle(1, "tesla.model3", "180,44,44"),
    _vehicle(2, "lincoln.mkz_2020", "41,63,115"),
    _vehicle(3, "audi.a2", "173,173,173"),
    _vehicle(4, "toyota.prius", "33,75,38"),
    Blueprint(
        10,
        CAMERA,
        (
            *_SENSOR,
            Attribute("image_size_x", INT, "800"),
            Attribute("image_size_y", INT, "600"),
            Attribute("fov", FLOAT, "90.0"),
            Attribute("sensor_tick", FLOAT, "0.0"),
        ),
    ),
    Blueprint(11, COLLISION_SENSOR, _SENSOR),
    Blueprint(12, LANE_INVASION_SENSOR, _SENSOR),
    Blueprint(13, SPECTATOR, _SENSOR),
)
BY_NAME = {blueprint.name: blueprint for blueprint in BLUEPRINTS}
