"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.carla_server.process import carla_server

__all__ = ["carla_server"]

# A deadline times the machine: on a loaded one it fails tests that are right.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of real event files, or a skip where it is not at hand."""
    folder = Path(os.environ.get("SENTINEL_CORPUS", Path(__file__).parents[1].parent / "shared" / "corpus"))
    if not (folder / "labels.csv").is_file():
        pytest.skip(f"no corpus at {folder}; set SENTINEL_CORPUS to run this test")
    return folder
