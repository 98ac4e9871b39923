"""The learner of a run whose steps are made by actors elsewhere: it stores, learns, logs and obeys.

The one fact to hold: it is the same loop. Only where a step comes from differs: it was made by an actor, with
weights of a little while ago, and is counted when it is stored. What actors have under way is in no
checkpoint, so a resume or a rollback drops it and every actor begins a new episode: not bit for bit.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from trainer import metrics
from trainer.acting import Chunk, Orders, Step, Stretch, policy_of
from trainer.config import Config
from trainer.crew import Crew
from trainer.loop import WAIT, Trainer
from trainer.simulator import Simulator

LATE = 0.5
"""s without a step from which on a simulator that is away is what the learner waits for."""

SAY_EVERY = 30.0
"""s between two lines about actors of which none sends anything."""


class Learner(Trainer):
    """As Trainer, with a crew of config.actors actors."""

    def __init__(self, config: Config, *, crew: Crew, **more: Any) -> None:
        self.crew = crew
        self._queue: deque[tuple[int, Stretch, Step]] = deque()
        self._episodes: dict[int, metrics.Episode] = {}
        self._row_waits = True
        self._lags: list[int] = []
        self._stretch: Stretch | None = None
        self._fresh = set(range(config.actors))
        """Actors that begin a new episode when they are asked next."""
        self._asked: set[int] = set()
        self._stale: set[int] = set()
        """Actors whose present order was given before a rollback: what comes of it is dropped."""
        self._places: dict[int, str] = {}
        super().__init__(config, **more)
        self._between = True  # of the environment here, which is there for its shapes: nothing to save
        self._heard = self._said = time.monotonic()
        for number in range(config.actors):
            self._ask(number)

    def run(self) -> str:
        try:
            return super().run()
        finally:
            self.crew.close()

    # -- act and store -----------------------------------------------------------------------------

    def _ready(self) -> bool:
        if not self._queue:
            self.guard.beat(self.step, "collect")
            self._receive(WAIT)
        if self._queue:
            return True
        self._wait()
        if self.outcome is None:
            self._obey()
        return False

    def _receive(self, within: float) -> None:
        """Take in what one actor has sent, and ask it again before it is learnt from."""
        came = self.crew.next(within)
        if came is None:
            return
        number, chunk = came
        if chunk is None:
            self._fresh.add(number)
            self._log_crew()
        elif number not in self._stale:
            self._take(number, chunk)
        self._stale.discard(number)
        self._ask(number)

    def _take(self, number: int, chunk: Chunk) -> None:
        if self._places.get(number) != chunk.place:
            self._places[number] = chunk.place
            self._say(f"actor {number} acts: {chunk.place}")
        if chunk.updates is not None:
            self._lags.append(self.agent.updates - chunk.updates)
        steps = [(number, stretch, step) for stretch in chunk.stretches for step in stretch.steps]
        self._queue.extend(steps)
        if self.simulator is not None:
            self._account(self.simulator, chunk, len(steps))
        if steps:
            self._heard = time.monotonic()

    def _account(self, simulator: Simulator, chunk: Chunk, steps: int) -> None:
        """The simulators of all actors have one account: they are away when none makes a step."""
        for reason in chunk.faults:
            simulator.failed(reason)
        for _ in range(steps):
            simulator.stepped(chunk.seconds / steps)
        simulator.restarts += chunk.restarts
        if chunk.faults or chunk.restarts:
            self.metrics.log(simulator.scalars(), self.step)
        nothing_comes = time.monotonic() - self._heard > LATE
        if chunk.trouble and nothing_comes and simulator.waits(chunk.trouble):
            self.metrics.log(simulator.scalars(), self.step)

    def _ask(self, number: int) -> None:
        warm_up = self.step < self.config.start_timesteps
        orders = Orders(policy_of(self.agent), self.agent.updates, warm_up, number in self._fresh)
        self._fresh.discard(number)
        self._asked.add(number)
        self.crew.ask(number, orders)

    def _wait(self) -> None:
        """Say that nothing comes; where simulators are what is waited for, give them up in the end."""
        now = time.monotonic()
        if self.simulator is not None and now - self._heard > self.config.carla_patience:
            self._save("end")
            self.simulator.gives_up("no actor has made a step")
            self.outcome = "failed"
        elif now - max(self._heard, self._said) > SAY_EVERY:
            self._said = now
            self._say(
                f"no actor has sent a step for {now - self._heard:.0f} s; `ray status` says what actors that "
                "were never started wait for"
            )

    def _advance(self, learning: bool) -> bool:  # noqa: ARG002, FBT001 - the actor has chosen the action
        number, stretch, step = self._queue.popleft()
        self.guard.beat(self.step, "update" if self.agent.updates else "collect")
        if stretch is not self._stretch:
            self._begin_stretch(number, stretch)
        self.replay.add(step.action, step.reward, step.after, terminated=step.terminated, ended=step.ended)
        self.step += 1
        episode = self._episodes[number]
        episode.add(step.reward, step.info)
        self.reward_bound = max(self.reward_bound, abs(step.reward))
        self._row_waits = True
        if step.ended:
            self.metrics.log(episode.scalars(), self.step)
            self.replay.begin(step.after)  # so that a row waits at any time; the next stretch takes its place
            self._row_waits = False
        return True

    def _begin_stretch(self, number: int, stretch: Stretch) -> None:
        if self._row_waits:
            self.replay.abandon()
        if stretch.begins:
            self.replay.begin(stretch.start)
            self._episodes[number] = metrics.Episode()
        else:
            self.replay.go_on(stretch.start)
        self._stretch = stretch

    # -- log ---------------------------------------------------------------------------------------

    def _of_the_world(self) -> metrics.Scalars:
        scalars = super()._of_the_world() | {"actors/restarts": float(self.crew.restarts)}
        if self._lags:
            scalars["actors/policy_lag"] = sum(self._lags) / len(self._lags)
        self._lags = []
        return scalars

    def _log_crew(self) -> None:
        self.metrics.log({"actors/restarts": self.crew.restarts}, self.step)

    def _evaluation(self) -> Iterator[int]:
        """Actor 0 evaluates; the learner waits for it: the scores are those of the step they stand at."""
        result = self.crew.evaluate(policy_of(self.agent))
        while (scores := result(WAIT)) is None:
            self.guard.beat(self.step, "evaluate")
            yield 0
        returns, lengths = scores
        if returns:
            self._tell_scores(returns, lengths)

    # -- become ------------------------------------------------------------------------------------

    def _go_on_in(self, state: Mapping[str, Any]) -> None:  # noqa: ARG002 - no episode of it can go on
        """Drop what is under way: it was made by another policy, or by actors that are no more."""
        self._queue.clear()
        self._episodes.clear()
        self._lags = []
        self._stretch, self._row_waits = None, True
        self._fresh, self._stale = set(range(self.config.actors)), set(self._asked)
