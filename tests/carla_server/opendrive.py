"""OpenDRIVE text for a lane of the embedded world: the lane itself and the oncoming one to its left.

The one fact to hold: OpenDRIVE is right-handed, so y and every angle and curvature change sign, and its
reference line is the marking between the two lanes, half a lane to the left of the ego lane's centre.
A road of its own for every few segments, because a road that follows itself is nothing a map has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import quoteattr

from trainer.driving.lanes import Lane, Segment

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
    body = "".join(
        _road(number, (number - 2) % count + 1, number % count + 1, road, width)
        for number, road in enumerate(roads, start=1)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<OpenDRIVE>\n'
        f'<header revMajor="1" revMinor="4" name={quoteattr(name)} version="1" date="" north="0" south="0"'
        ' east="0" west="0"><geoReference><![CDATA[+proj=tmerc +lat_0=0 +lon_0=0 +k=1 +x_0=0 +y_0=0'
        " +datum=WGS84 +units=m +no_defs]]></geoReference></header>\n"
        f"{body}</OpenDRIVE>\n"
    )


def _road(number: int, before: int, after: int, segments: Sequence[Segment], width: float) -> str:
    lines, start = [], 0.0
    for segment in segments:
        line, length = _geometry(segment, start, 0.5 * width)
        lines.append(line)
        start += length
    return (
        f'<road name="Road {number}" length="{start!r}" id="{number}" junction="-1">\n'
        f'<link><predecessor elementType="road" elementId="{before}" contactPoint="end"/>'
        f'<successor elementType="road" elementId="{after}" contactPoint="start"/></link>\n'
        f'<type s="0" type="town"><speed max="{SPEED_LIMIT}" unit="km/h"/></type>\n'
        f"<planView>\n{''.join(lines)}</planView>\n"
        '<elevationProfile><elevation s="0" a="0" b="0" c="0" d="0"/></elevationProfile>\n'
        '<lateralProfile/>\n<lanes><laneOffset s="0" a="0" b="0" c="0" d="0"/>\n<laneSection s="0">\n'
        f"<left>{_lane(1, width)}</left>\n"
        f'<center><lane id="0" type="none" level="false"><link/>{_mark("broken")}</lane></center>\n'
        f"<right>{_lane(-1, width)}</right>\n"
        "</laneSection></lanes>\n<objects/>\n<signals/>\n</road>\n"
    )


def _geometry(segment: Segment, start: float, left: float) -> tuple[str, float]:
    """Return a segment's reference line, `left` m to the left of it, and how long that line is."""
    stretch = 1.0 + left * segment.curvature
    length = segment.length * stretch
    x = segment.x + left * math.sin(segment.heading)
    y = segment.y - left * math.cos(segment.heading)
    shape = "<line/>" if segment.curvature == 0 else f'<arc curvature="{-segment.curvature / stretch!r}"/>'
    return (
        f'<geometry s="{start!r}" x="{x!r}" y="{-y!r}" hdg="{-segment.heading!r}" length="{length!r}">'
        f"{shape}</geometry>\n",
        length,
    )


def _lane(number: int, width: float) -> str:
    return (
        f'<lane id="{number}" type="driving" level="false">'
        f'<link><predecessor id="{number}"/><successor id="{number}"/></link>'
        f'<width sOffset="0" a="{width!r}" b="0" c="0" d="0"/>{_mark("solid")}</lane>'
    )


def _mark(kind: str) -> str:
    look = 'material="standard" color="white" width="0.12"'
    return f'<roadMark sOffset="0" type="{kind}" {look} laneChange="none"/>'
