"""A protocol server for CARLA 0.9.16's client that serves the embedded driving world; a test-only process.

The one fact to hold: it is an independent server, written from the facts about the wire format, and no
part of CARLA. What runs through it is tested with the real carla 0.9.16 client against our protocol server;
not run against the Unreal server. Timing, order and failures of the stock server were not observed.
"""
