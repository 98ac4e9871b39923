"""The RPC port: MessagePack requests back to back on a connection, one answer for each.

The one fact to hold: there is no length prefix, so a message ends where its MessagePack object ends.
Requests of a connection are carried out in the order they came; a method that raises `Refused` answers with
the error that its caller sees as a RuntimeError.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

import msgpack

from tests.carla_server.wire import Wire

Method = Callable[..., Any]

REQUEST, ANSWER = 0, 1


class Refused(Exception):  # noqa: N818  # an answer of the protocol, not a fault of the server
    """The request cannot be carried out; the message is what the client's caller reads."""


class Requests:
    """Serves one table of methods to every connection.

    Args:
        methods: by their names on the wire. Each takes the request's arguments, without the metadata that
        every request begins with, and returns the whole result.
    """

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self._methods = methods
        self._connections: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client until it goes."""
        no_delay(writer)
        self._connections.add(writer)
        unpacker = msgpack.Unpacker(unicode_errors="surrogateescape", strict_map_key=False)
        try:
            while data := await reader.read(1 << 16):
                unpacker.feed(data)
                for message in unpacker:
                    writer.write(msgpack.packb(self._answer(message)))
        except ConnectionError:
            pass  # a client that is killed resets its connections; that is how its stay ends
        finally:
            self._connections.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def _answer(self, message: Wire) -> Wire:
        kind, number, name, params = message
        assert kind == REQUEST, message
        method = self._methods.get(name)
        if method is None:
            sys.stderr.write(f"carla_server: no method {name}{params[1:]}\n")
            sys.stderr.flush()
            return [ANSWER, number, f"this server has no method {name}", None]
        return [ANSWER, number, None, method(*params[1:])]


def no_delay(writer: asyncio.StreamWriter) -> None:
    """Send small messages at once: a tick waits for them."""
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
