"""What a message about a run says besides its sentences: its plot, its cost, and the commands to go on with.

Composed in the tick from what is in memory; the checkpoints' manifests are all that is read, and only where a
story opens or ends. A plot that cannot be composed is left out: nobody's training waits for a picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from shlex import join
from typing import Any

from notifier.message import Fact, Message
from notifier.plot import Plot
from rules.alert import Alert, AlertState
from rules.verdict import Mark
from sentinel.checkpoints import glance, on_descent
from sentinel.config import Settings
from sentinel.curves import Curves
from sentinel.discover import called
from sentinel.judge import Judge, Step
from sentinel.plots import Scene, draw
from sentinel.policy import Action
from sentinel.registration import Registration
from sentinel.state import state_folder
from sentinel.story import Cost, in_words

_BROKEN = (ArithmeticError, ValueError, LookupError, TypeError)
"""What figures that nobody thought of may raise; as with a rule's own evaluation."""


class Telling:
    """What is added to one run's messages."""

    def __init__(
        self,
        name: str,
        folder: Path,
        judge: Judge,
        registration: Registration,
        settings: Settings,
        state: Path,
    ) -> None:
        """Begin to keep what the run logs.

        Args:
            name: of the run. folder: where it lies. judge: of the run; it is given its history to fill.
            registration: who trains it, and where its checkpoints are.
            settings: by which it is judged. state: the sentinel's own folder.
        """
        self._name = name
        self._folder = folder
        self._judge = judge
        self._registration = registration
        self._settings = settings
        self._state = state
        self._curves = judge.curves = Curves(settings.program)

    def of_step(self, message: Message, step: Step) -> Message:
        """Add to a story's first message its plot and commands, to its last one its plot; where it is about
        a process that has died, of what.
        """
        if message.kind == "update":
            return message
        observation = step.observation
        error = self._registration.error
        if error and message.kind == "opened" and observation.rule.labels.get("area") == "process":
            message = replace(message, facts=(Fact("last error", error), *message.facts))
        moved = observation.transition
        closed = message.kind == "closed" and moved is not None
        ending = (
            ("recovered" if moved is not None and "recover" in moved.reason else "resolved") if closed else ""
        )
        plot = self._plot(observation.alert, observation.verdict.at, ending)
        commands = () if closed else self.commands(observation.key, step.actions)
        return replace(message, plot=plot, commands=commands)

    def of_ending(self, message: Message, key: str, command: Mapping[str, Any]) -> Message:
        """Add its plot to the word that a run was ended: no other will close its story."""
        alert = self._judge.watch.alerts.get(key)
        if (
            command["verb"] != "terminate"
            or command["state"] != "done"
            or alert is None
            or alert.last is None
        ):
            return message
        return replace(message, plot=self._plot(alert, alert.last, "ended"))

    def cost(self, command: Mapping[str, Any]) -> Cost | None:
        """Return what a command gave up: of a rollback what lies behind its checkpoint, of an end what lies
        behind the last one.
        """
        if command["state"] != "done":
            return None
        watch = self._judge.watch
        step = command["step"] if command["step"] is not None else watch.run_step
        if command["verb"] == "rollback":
            to_step = command["checkpoint_step"]
            began = (wall for _, wall in self._judge.ledger.rewinds if wall > command["asked"])
            until = min(began, default=math.inf)
        elif command["verb"] == "terminate":
            to_step, until = self.last_checkpoint() or 0, math.inf
        else:
            return None
        if to_step is None or to_step >= step:
            return None
        later, earlier = self._curves.wall_at(step, until), self._curves.wall_at(to_step, until)
        known = later is not None and earlier is not None and later >= earlier
        return Cost(
            step - to_step, later - earlier if known and later is not None and earlier is not None else None
        )

    def last_checkpoint(self) -> int | None:
        """Return the step of the newest checkpoint on the present line; it need not be verified."""
        found = on_descent(glance(self._registration.checkpoints), self._judge.ledger.rewinds)
        return max((checkpoint.step for checkpoint in found), default=None)

    def commands(self, key: str, actions: tuple[Action, ...]) -> tuple[str, ...]:
        """Return command lines that are true for this run, whatever folder a reader stands in."""
        settings, folder = self._settings, self._folder.absolute()
        chosen = [] if settings.source is None else ["--config", str(settings.source.absolute())]
        chosen += [part for pack in settings.packs for part in ("--pack", pack)]
        logdir = folder if self._name == "." else folder.parents[len(Path(self._name).parts) - 1]
        where = ["--logdir", str(logdir)]
        if self._state.absolute() != state_folder(logdir, None).absolute():
            where += ["--state", str(self._state.absolute())]
        lines = [["sentinel", "explain", key, str(folder), *chosen]]
        for action in actions:
            if (
                self._judge.sends
                or action.withheld
                or action.verb == "notify"
                or self._registration.unreachable
            ):
                continue
            lines.append(["sentinel", "command", called(self._name, folder), *_asked(action), *where])
        lines.append(["sentinel", "status", *where])
        return tuple(join(line) for line in lines)

    def _plot(self, alert: Alert, now: Mark, ending: str) -> Plot | None:
        ledger = self._judge.ledger
        scene = Scene(
            called(self._name, self._folder),
            tuple(ledger.rewinds),
            glance(self._registration.checkpoints),
            ledger.suspicions(),
        )
        if alert.state is AlertState.RESOLVED and alert.last is not None:
            now = alert.last
        try:
            title = in_words(alert.key)
            return draw(self._judge.watch, self._curves, alert, title, scene, now=now, ending=ending)
        except _BROKEN:
            return None


def _asked(action: Action) -> list[str]:
    """Write an action as arguments of `sentinel command`."""
    words: list[str] = [action.verb]
    if action.checkpoint:
        words += ["--to", action.checkpoint]
    for name, value in sorted((action.set or {}).items()):
        words += ["--set", f"{name}={value}"]
    for part in action.reinit:
        words += ["--reinit", part]
    return words
