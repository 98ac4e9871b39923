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

Serves: synchronous and asynchronous mode, ticks, maps Road0 to Road2 (the driving scenarios) with
load_world and reload_world, four vehicle blueprints, VehicleControl, transforms, target velocity, batches,
the client's TrafficManager, sensor.camera.rgb (fov 90, 1.5 m high), sensor.other.collision,
sensor.other.lane_invasion, weather (kept, not shown), physics control (max_steer_angle is true).
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
        "--end-with-stdin", action="store_true", help="end when standard input is closed: no orphan is left"
    )
    options = parser.parse_args()
    if options.end_with_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    server = Server(Simulation(map_of(options.map)), options.faults)
    asyncio.run(server.serve(options.host, options.port))


def _end_with_stdin() -> None:
    """Wait for the end of standard input, which comes when whoever started this process is gone."""
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
