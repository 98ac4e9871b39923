"""A map with a junction: a crossing of four arms, and two loops that each lead from one arm to the next.

The one fact to hold: in it a lane has three ways on, so routes and the TrafficManager must choose. It is a
map of the server's own; the embedded world has no junction, and no picture of one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from tests.carla_server.opendrive import document, lane_text, road
from tests.carla_server.wire import Pose
from trainer.driving.lanes import Segment, wrap_angle

NAME = "Crossing"
HALF = 12.0
"""m from the middle of the crossing to where its arms begin."""
STRAIGHT = 40.0
"""m of each arm before it bends."""
JUNCTION = 100
"""No road has this number: so the client knows a junction."""
ARMS = ((1, "start"), (2, "end"), (3, "start"), (4, "end"))
"""Which end of which road is the arm that lies k quarter turns clockwise of x."""


def crossing(width: float) -> str:
    """Return the map as OpenDRIVE text; lanes are `width` m wide."""
    towards = f'elementType="junction" elementId="{JUNCTION}"'
    loops = []
    for first, segments in zip((1, 3), _loops(), strict=True):
        # Two roads a loop: the library loses the way where one road has both its ends in a junction.
        half = segments[1].length / 2
        out = [segments[0], replace(segments[1], length=half)]
        x, y, heading = _along(segments[1], half)
        back = [replace(segments[1], length=half, x=x, y=y, heading=heading), segments[2]]
        onward = f'elementType="road" elementId="{first + 1}" contactPoint="start"'
        before = f'elementType="road" elementId="{first}" contactPoint="end"'
        loops.append(
            road(first, out, left=0.0, lanes=_loop_lanes(width, out=True), before=towards, after=onward)
        )
        loops.append(
            road(first + 1, back, left=0.0, lanes=_loop_lanes(width, out=False), before=before, after=towards)
        )
    ways, connections = [], []
    pairs = [(a, b) for a in range(4) for b in range(4) if a != b]
    for number, (a, b) in enumerate(pairs, start=JUNCTION + 1):
        (come, come_at), (go, go_at) = ARMS[a], ARMS[b]
        incoming, outgoing = (1 if come_at == "start" else -1), (-1 if go_at == "start" else 1)
        ways.append(
            road(
                number,
                _way(a, b),
                left=0.0,
                lanes=[lane_text(-1, width, before=incoming, after=outgoing, mark="none")],
                before=f'elementType="road" elementId="{come}" contactPoint="{come_at}"',
                after=f'elementType="road" elementId="{go}" contactPoint="{go_at}"',
                junction=JUNCTION,
            )
        )
        connections.append(
            f'<connection id="{number}" incomingRoad="{come}" connectingRoad="{number}" contactPoint="start">'
            f'<laneLink from="{incoming}" to="-1"/></connection>\n'
        )
    middle = f'<junction id="{JUNCTION}" name="{NAME}">\n{"".join(connections)}</junction>\n'
    return document(NAME, [*loops, *ways, middle])


def spawn_points(width: float, spacing: float, height: float) -> tuple[Pose, ...]:
    """Return places in the middle of both lanes of the loops, none near the crossing."""
    points = []
    for segments in _loops():
        end = segments[-1].start + segments[-1].length
        for k in range(1, int(end / spacing)):
            x, y, heading = _pose(segments, k * spacing)
            for side, turn in ((0.5, 0.0), (-0.5, math.pi)):
                across = side * width
                yaw = math.degrees(wrap_angle(heading + turn))
                points.append(
                    Pose(x - across * math.sin(heading), y + across * math.cos(heading), height, yaw=yaw)
                )
    return tuple(points)


def _loop_lanes(width: float, *, out: bool) -> list[str]:
    """Return both lanes of a half of a loop. Towards the junction no lane is named: its connections do."""
    return [
        lane_text(side, width, before=None if out else side, after=side if out else None, mark="solid")
        for side in (1, -1)
    ]


def _loops() -> list[list[Segment]]:
    radius = HALF + STRAIGHT
    shape = ((STRAIGHT, 0.0), (1.5 * math.pi * radius, 1.0 / radius), (STRAIGHT, 0.0))
    return [_chain(HALF, 0.0, 0.0, shape), _chain(-HALF, 0.0, math.pi, shape)]


def _way(a: int, b: int) -> list[Segment]:
    """Return the way through the crossing from arm a to arm b: straight on, or a quarter of a circle."""
    angle = 0.5 * math.pi * a
    turn = wrap_angle(0.5 * math.pi * b - angle - math.pi)
    start = (HALF * math.cos(angle), HALF * math.sin(angle), angle + math.pi)
    if abs(turn) < 1e-9:
        return _chain(*start, ((2 * HALF, 0.0),))
    return _chain(*start, ((HALF * abs(turn), math.copysign(1.0 / HALF, turn)),))


def _chain(x: float, y: float, heading: float, shape: Sequence[tuple[float, float]]) -> list[Segment]:
    """Return segments one after another from a pose; `shape` holds their lengths and curvatures."""
    segments: list[Segment] = []
    start = 0.0
    for length, curvature in shape:
        segments.append(Segment(start, length, curvature, x, y, heading))
        x, y, heading = _along(segments[-1], length)
        start += length
    return segments


def _pose(segments: Sequence[Segment], place: float) -> tuple[float, float, float]:
    segment = next(segment for segment in reversed(segments) if segment.start <= place)
    return _along(segment, place - segment.start)


def _along(segment: Segment, way: float) -> tuple[float, float, float]:
    half = 0.5 * segment.curvature * way
    chord = way if half == 0.0 else way * math.sin(half) / half
    course = segment.heading + half
    return (
        segment.x + chord * math.cos(course),
        segment.y + chord * math.sin(course),
        segment.heading + 2 * half,
    )
