"""OpenDRIVE text for a lane of the embedded world: the lane itself and the oncoming one to its left.

The one fact to hold: OpenDRIVE is right-handed, so y and every angle and curvature change sign, and its
reference line is the marking between the two lanes, half a lane to the left of the ego lane's centre.
A road of its own for every few segments, because a road that follows itself is nothing a map has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import quoteattr

from trainer.driving.lanes import Lane, Segment, wrap_angle

SEGMENTS_A_ROAD = 4
SPEED_LIMIT = 40.0
"""km/h."""


def opendrive(name: str, lane: Lane, width: float) -> str:
    """Return the map as OpenDRIVE 1.4 text.

    Args:
        name: of the map. lane: the ego lane, closed. width: of both lanes, m.
    """
    segments = lane.segments
    roads = [segments[k : k + SEGMENTS_A_ROAD] for k in range(0, len(segments), SEGMENTS_A_ROAD)]
    if len(roads) < 2:
        half = len(segments) // 2
        roads = [segments[:half], segments[half:]]
    count = len(roads)
    return document(
        name,
        [
            road(
                number,
                segments,
                left=0.5 * width,
                lanes=[two_way(side, width) for side in (1, -1)],
                before=f'elementType="road" elementId="{(number - 2) % count + 1}" contactPoint="end"',
                after=f'elementType="road" elementId="{number % count + 1}" contactPoint="start"',
            )
            for number, segments in enumerate(roads, start=1)
        ],
    )


def document(name: str, elements: Sequence[str]) -> str:
    """Return the whole text of a map of roads and junctions."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<OpenDRIVE>\n'
        f'<header revMajor="1" revMinor="4" name={quoteattr(name)} version="1" date="" north="0" south="0"'
        ' east="0" west="0"><geoReference><![CDATA[+proj=tmerc +lat_0=0 +lon_0=0 +k=1 +x_0=0 +y_0=0'
        " +datum=WGS84 +units=m +no_defs]]></geoReference></header>\n"
        f"{''.join(elements)}</OpenDRIVE>\n"
    )


def road(
    number: int,
    segments: Sequence[Segment],
    *,
    left: float,
    lanes: Sequence[str],
    before: str,
    after: str,
    junction: int = -1,
) -> str:
    """Return a road.

    Args:
        segments: in CARLA's coordinates. left: m from them to the reference line. lanes: those to the left,
        numbered from 1, and those to the right, from -1, as `lane_text` makes them. before, after: attributes
        of the links. junction: the number of the one that it is a part of.
    """
    lines, start = [], 0.0
    for segment in segments:
        line, length = _geometry(segment, start, left)
        lines.append(line)
        start += length
    sides = {"left": "".join(lane for lane in lanes if 'id="-' not in lane[:12])}
    sides["right"] = "".join(lane for lane in lanes if 'id="-' in lane[:12])
    text = {side: f"<{side}>{inside}</{side}>\n" if inside else "" for side, inside in sides.items()}
    middle = _mark("broken" if sides["left"] else "none")
    return (
        f'<road name="Road {number}" length="{start!r}" id="{number}" junction="{junction}">\n'
        f"<link><predecessor {before}/><successor {after}/></link>\n"
        f'<type s="0" type="town"><speed max="{SPEED_LIMIT}" unit="km/h"/></type>\n'
        f"<planView>\n{''.join(lines)}</planView>\n"
        '<elevationProfile><elevation s="0" a="0" b="0" c="0" d="0"/></elevationProfile>\n'
        '<lateralProfile/>\n<lanes><laneOffset s="0" a="0" b="0" c="0" d="0"/>\n<laneSection s="0">\n'
        f"{text['left']}"
        f'<center><lane id="0" type="none" level="false"><link/>{middle}</lane></center>\n'
        f"{text['right']}"
        "</laneSection></lanes>\n<objects/>\n<signals/>\n</road>\n"
    )


def _geometry(segment: Segment, start: float, left: float) -> tuple[str, float]:
    """Return a segment's reference line, `left` m to the left of it, and how long that line is."""
    stretch = 1.0 + left * segment.curvature
    length = segment.length * stretch
    x = segment.x + left * math.sin(segment.heading)
    y = segment.y - left * math.cos(segment.heading)
    heading = -wrap_angle(segment.heading)
    shape = "<line/>" if segment.curvature == 0 else f'<arc curvature="{-segment.curvature / stretch!r}"/>'
    return (
        f'<geometry s="{start!r}" x="{x!r}" y="{-y!r}" hdg="{heading!r}" length="{length!r}">'
        f"{shape}</geometry>\n",
        length,
    )


def two_way(number: int, width: float) -> str:
    """Return a driving lane of a two-way road that goes on as the same lane, edged by a solid line."""
    return lane_text(number, width, before=number, after=number, mark="solid")


def lane_text(number: int, width: float, *, before: int | None, after: int | None, mark: str) -> str:
    """Return a driving lane; `before` and `after` are the lanes it is linked to, in another road."""
    links = f'<predecessor id="{before}"/>' if before is not None else ""
    links += f'<successor id="{after}"/>' if after is not None else ""
    return (
        f'<lane id="{number}" type="driving" level="false"><link>{links}</link>'
        f'<width sOffset="0" a="{width!r}" b="0" c="0" d="0"/>{_mark(mark)}</lane>'
    )


def _mark(kind: str) -> str:
    look = 'material="standard" color="white" width="0.12"'
    return f'<roadMark sOffset="0" type="{kind}" {look} laneChange="none"/>'
