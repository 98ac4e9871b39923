"""The streaming port: a client sends the number of a stream, and from then on only reads.

The one fact to hold: what is published before the client's four bytes have arrived is lost to it, so the
first image after `listen()` may be. The state of the world alone is kept for those who come late.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import defaultdict

from tests.carla_server.rpc import no_delay

WORLD_STREAM = 1
MOST_UNREAD = 1 << 26
"""Bytes that may wait for a client that does not read; further messages to it are dropped."""


class Streams:
    """All subscriptions, by number of stream."""

    def __init__(self) -> None:
        self._listeners: dict[int, set[asyncio.StreamWriter]] = defaultdict(set)
        self._kept: dict[int, bytes] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take up one subscription until its client goes."""
        no_delay(writer)
        stream = None
        try:
            (stream,) = struct.unpack("<I", await reader.readexactly(4))
            if stream in self._kept:
                writer.write(self._kept[stream])
            self._listeners[stream].add(writer)
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # a client that is killed resets its connections; that is how its stay ends
        finally:
            if stream is not None:
                self._listeners[stream].discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def publish(self, stream: int, payload: bytes, *, keep: bool = False) -> None:
        """Send a message to everyone who listens; `keep` it for those who begin to listen later."""
        message = struct.pack("<I", len(payload)) + payload
        if keep:
            self._kept[stream] = message
        for writer in tuple(self._listeners[stream]):
            if not writer.is_closing() and writer.transport.get_write_buffer_size() < MOST_UNREAD:
                writer.write(message)

    def forget(self, stream: int) -> None:
        """Keep nothing of a stream: what was published is past."""
        self._kept.pop(stream, None)

    def listeners(self, stream: int) -> int:
        """Return how many listen to a stream."""
        return len(self._listeners[stream])
