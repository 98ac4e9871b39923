"""`python -m tests.carla_server`: the server as a process."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import threading

from tests.carla_server.faults import described, parse
from tests.carla_server.server import Server
from tests.carla_server.simulation import MAPS, Simulation, map_of

ABOUT = """\
A protocol server of our own for the carla 0.9.16 client. It serves the embedded kinematic world; it is no
CARLA. What runs through it is tested with the real carla 0.9.16 client against our protocol server; not run
against the Unreal server.

Serves: synchronous and asynchronous mode, ticks, maps Road0 to Road2 (the driving scenarios) and Crossing (a
junction, of which there is no picture) with load_world and reload_world, four vehicle blueprints,
VehicleControl, transforms, target velocity, batches, the client's TrafficManager, sensor.camera.rgb (fov 90,
1.5 m high), sensor.other.collision, sensor.other.lane_invasion, weather (kept, not shown), physics control
(max_steer_angle is true).
Not served: walkers, traffic lights, lidar, radar, IMU, GNSS, Ackermann control, impulses.
"""


def main() -> None:
    """Serve until killed."""
    faults = "\n".join(f"  {name:<18} {words}" for name, words in described().items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.carla_server",
        description=ABOUT,
        epilog=f"faults, as --faults name=value,name:\n{faults}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=2000, help="RPC port (%(default)s); streams use the next one; 0: any two"
    )
    parser.add_argument("--map", choices=MAPS, default=MAPS[0], help="map at the start (%(default)s)")
    parser.add_argument("--faults", type=parse, default=parse(""), help="what goes wrong; see below")
    parser.add_argument(
        "--watch-stdin",
        action="store_true",
        help="take lines of standard input as new --faults, answering each by a line 'armed'; end with it",
    )
    options = parser.parse_args()
    asyncio.run(_serve(options))


async def _serve(options: argparse.Namespace) -> None:
    server = Server(Simulation(map_of(options.map)), options.faults)
    if options.watch_stdin:
        threading.Thread(target=_watch, args=(server, asyncio.get_running_loop()), daemon=True).start()
    await server.serve(options.host, options.port)


def _watch(server: Server, loop: asyncio.AbstractEventLoop) -> None:
    """Pass on what standard input says until it ends: whoever started this process is then gone."""
    for line in sys.stdin:
        loop.call_soon_threadsafe(_arm, server, line)
    os._exit(0)


def _arm(server: Server, line: str) -> None:
    server.arm(parse(line))
    print("armed", flush=True)  # who gave the faults waits for this line


if __name__ == "__main__":
    main()
