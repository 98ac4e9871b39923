"""Samples: the one form in which numbers reach the rules."""

from __future__ import annotations

from typing import TypeAlias

Sample: TypeAlias = tuple[str, int, float, float]
"""(tag, step, wall_time in seconds since the epoch, value). A plain tuple: a million pass a second."""
