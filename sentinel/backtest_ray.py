"""Many recorded runs on a Ray cluster: the same function, mapped over nodes in place of processes.

The runs stay where they are: every node reads the event files itself, by the same absolute paths, and has
this package installed. What a node cannot see is an outcome with its error, as everywhere.
"""

# ruff: noqa: PLC0415  ray is an extra, and takes seconds to import: only whoever asks for it pays

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sentinel.backtest import (
    Outcomes,
    Progress,
    failed,
    interned,
    judge_safely,
    largest_first,
    rules_by_name,
    uncompiled,
)
from sentinel.config import Settings
from sentinel.errors import ConfigError
from sentinel.replay import Recording

_PATIENCE = 10.0  # seconds

_taken: dict[str, list[Settings]] = {}
"""The rules that a process of the cluster has taken in, by the id of the object that holds them."""


def backtest_on_ray(
    address: str, recordings: Sequence[Recording], rules: Sequence[Settings], progress: Progress
) -> list[Outcomes]:
    """Judge runs by sets of rules on a cluster; see `backtest`.

    Args:
        address: `auto`, `host:port`, `ray://host:port`, or `local` for a cluster of this machine alone.

    Raises:
        ConfigError: ray is not installed, or there is no cluster at the address.
    """
    ray = _connected(address)
    try:
        return _spread(ray, recordings, rules, progress)
    finally:
        ray.shutdown()


def _connected(address: str) -> Any:
    os.environ.setdefault(
        "RAY_NUM_REDIS_GET_RETRIES", "1"
    )  # read at import: 20 tries last a quarter of an hour
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "--ray needs Ray, which is not installed here; pip install 'training-sentinel[ray]', or leave "
            "--ray out and use --jobs; nothing was judged"
        ) from error
    quiet: dict[str, Any] = {} if address.startswith("ray://") else {"log_to_driver": False}
    try:
        _knock(address)
        ray.init(address=address, logging_level=logging.ERROR, **quiet)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise ConfigError(
            f"--ray {address}: no Ray cluster could be joined: {str(error).splitlines()[0]}; start one with "
            "`ray start --head`, or leave --ray out and use --jobs; nothing was judged"
        ) from error
    return ray


def _knock(address: str) -> None:
    """See whether anybody listens at `host:port`: Ray itself waits for minutes.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), _PATIENCE).close()


def _spread(
    ray: Any, recordings: Sequence[Recording], rules: Sequence[Settings], progress: Progress
) -> list[Outcomes]:
    known = rules_by_name(rules)
    held = ray.put(uncompiled(rules))
    judge = ray.remote(_judge_there)
    found: list[Outcomes | None] = [None] * len(recordings)
    waiting: dict[Any, int] = {}
    for index in largest_first(recordings):
        # In a list the reference is handed on as it is: a process fetches the rules once, not once a run.
        waiting[judge.remote(_absolute(recordings[index]), held.hex(), [held])] = index
    while waiting:
        done, _ = ray.wait(list(waiting), num_returns=1)
        for reference in done:
            index = waiting.pop(reference)
            recording = recordings[index]
            try:
                outcomes = interned(ray.get(reference), known)
                found[index] = [replace(outcome, folder=recording.folder) for outcome in outcomes]
            except ray.exceptions.RayError as error:
                found[index] = failed(recording, rules, _reason(error))
            progress(recording.size * len(rules))
    return [outcomes for outcomes in found if outcomes is not None]


def _judge_there(recording: Recording, rules_id: str, held: list[Any]) -> Outcomes:
    """Judge one run, on some node."""
    import ray

    if rules_id not in _taken:
        _taken.clear()
        _taken[rules_id] = ray.get(held[0])
    return judge_safely(recording, _taken[rules_id])


def _absolute(recording: Recording) -> Recording:
    files = tuple(file.absolute() for file in recording.files)
    return replace(recording, folder=recording.folder.absolute(), files=files)


def _reason(error: Exception) -> str:
    """Take the cause out of what Ray wraps around it: the last line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"on the cluster: {type(error).__name__}: {lines[-1] if lines else 'no reason was given'}"
