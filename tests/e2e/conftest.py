"""The scene, for every test of whole processes."""

from __future__ import annotations

from tests.e2e.scene import scene

__all__ = ["scene"]
