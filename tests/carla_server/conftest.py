"""A server that the tests of a module share, for those that leave nothing of theirs in it but actors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.carla_server.process import CarlaServer, running


@pytest.fixture(scope="module")
def shared_server() -> Iterator[CarlaServer]:
    """A server without faults; each test that uses it reloads the world first."""
    with running() as server:
        yield server
