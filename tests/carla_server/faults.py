"""Faults that a test may ask of the server, all counted in ticks so that they strike at an exact place.

The one fact to hold: tick N is the Nth that clients have asked for since the faults were given, and a batch
likewise; the client's `apply_settings` asks for one or two ticks of its own. A fault that strikes in tick N
strikes after the request has arrived and before anything of it is answered.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any


def _fault(default: object, words: str) -> Any:  # dataclasses.field is typed so too
    return field(default=default, metadata={"words": words})


@dataclass(frozen=True)
class Faults:
    """What goes wrong. Each field's words are its help."""

    listen_after: float = _fault(0.0, "seconds before the ports are opened")
    hang_at: int = _fault(0, "tick in which the server stops answering for good; it still holds its ports")
    pause_at: int = _fault(0, "tick in which the server stops answering for pause-for seconds")
    pause_for: float = _fault(3.0, "how long pause-at lasts, s; what was asked meanwhile is then done")
    kill_at: int = _fault(0, "tick in which the server is killed by SIGKILL")
    kill_at_batch: int = _fault(
        0, "batch of commands in which the server is killed; a TrafficManager sends one a tick"
    )
    first_image_lost: bool = _fault(default=False, words="the first image of every camera is never sent")
    image_lost_at: int = _fault(0, "tick whose images are never sent")
    images_end_at: int = _fault(0, "tick from which on no camera sends anything")
    image_late: float = _fault(0.0, "seconds after the answer to its tick that an image is sent")
    image_late_every: int = _fault(1, "only every so many ticks are images late")
    version: str = _fault("", "version that the server claims to be")
    spawn_failure: int = _fault(0, "how many spawns of vehicles fail, from the first")
    settings_ignored: bool = _fault(default=False, words="new settings are acknowledged and not taken")
    wrong_delta: float = _fault(0.0, "seconds that a step takes, whatever the settings say")
    load_hangs: bool = _fault(default=False, words="loading a map is never answered")

    def image_delay(self, tick: int) -> float:
        """Return how many seconds after the answer to a tick its images are sent; negative for before."""
        return self.image_late if self.image_late and tick % self.image_late_every == 0 else -1.0

    def image_lost(self, tick: int, *, first: bool) -> bool:
        """Return whether an image of a tick is never sent."""
        ended = bool(self.images_end_at) and tick >= self.images_end_at
        return ended or tick == self.image_lost_at != 0 or (first and self.first_image_lost)


def parse(text: str) -> Faults:
    """Read faults as `--faults` takes them: `hang-at=20,first-image-lost`.

    Raises:
        ValueError: there is no such fault, or its value is of another kind.
    """
    values: dict[str, Any] = {}
    defaults: dict[str, Any] = {f.name.replace("_", "-"): f.default for f in dataclasses.fields(Faults)}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, has_value, value = part.partition("=")
        default = defaults.get(name)
        if default is None:
            raise ValueError(f"no fault {name!r}; there are {', '.join(sorted(described()))}")
        if isinstance(default, bool) == bool(has_value):
            raise ValueError(f"fault {name!r} {'takes no value' if has_value else 'needs a value'}")
        values[name.replace("-", "_")] = True if isinstance(default, bool) else type(default)(value)
    return Faults(**values)


def described() -> dict[str, str]:
    """Return every fault and what it does."""
    return {f.name.replace("_", "-"): f.metadata["words"] for f in dataclasses.fields(Faults)}
