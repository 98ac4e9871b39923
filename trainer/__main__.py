"""`python -m trainer`: train, verify, render, or examine a CARLA server. Exit codes are in `--help`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# torch reads this as it is imported: OpenMP threads that spin while they wait take a core from others.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from trainer import carla_doctor, envs, render
from trainer import checkpoint as checkpoints
from trainer import config as configuration
from trainer.checkpoint import CheckpointError
from trainer.config import Config, ConfigError
from trainer.crew import RayCrew
from trainer.learner import Learner
from trainer.loop import Trainer
from trainer.ranks import Alone, joined

USAGE, STATE, NO_SIMULATOR = 2, 4, 75
"""Exit codes: the flags or the folder do not fit; a checkpoint cannot be used; the simulator stayed away.

75 is EX_TEMPFAIL of sysexits.h: what failed may work later.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["doctor"]:
        return carla_doctor.main(given[1:])
    if given[:1] == ["render"]:
        return render.main(given[1:])
    if given[:1] == ["verify"]:
        return verify(given[1:])
    try:
        asked = configuration.from_arguments(given)
    except ConfigError as error:
        return _refuse(error)
    ranks = joined()
    try:
        return train(asked, ranks)
    finally:
        ranks.part()


def train(asked: configuration.Request, ranks: Alone) -> int:
    """Train what was asked for, as one of `ranks`, and return the exit code."""
    say = _say if ranks.number == 0 else _say_nothing
    more: dict[str, Any] = {"changes": asked.changes, "reinit": asked.reinit, "say": say, "ranks": ranks}
    try:
        trainer = _learner(asked.config, more) if asked.config.actors else Trainer(asked.config, **more)
    except (ConfigError, CheckpointError) as error:
        return _refuse(error)

    def stop(number: int, _frame: object) -> None:
        trainer.stop_signal = number
        signal.signal(number, signal.SIG_DFL)  # a second one does not wait for the step boundary

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        outcome = trainer.run()
    except envs.UnknownEnvironmentError as error:  # only the simulator itself knows what it has
        return _refuse(error)
    say(f"trainer: {outcome} at step {trainer.step}: {trainer.run_dir}")
    if asked.render is not None and outcome == "finished" and ranks.number == 0:
        try:
            render.film_evaluation(asked.config, trainer.agent, asked.render, say)
        except OSError as error:
            print(f"trainer: the run is whole, its film is not: {error}", file=sys.stderr)
    ranks.leave()  # a rank that fails does not: its death ends the others
    if outcome == "failed":
        return NO_SIMULATOR
    return 0 if trainer.stop_signal is None else 128 + trainer.stop_signal


def _learner(config: Config, more: dict[str, Any]) -> Trainer:
    if more["ranks"].count > 1:
        raise ConfigError("--actors needs one learner: start it without torchrun")
    crew = RayCrew(config, more["say"])
    try:
        return Learner(config, crew=crew, **more)
    except BaseException:
        crew.close()
        raise


def _refuse(error: ValueError) -> int:
    if isinstance(error, CheckpointError):
        print(f"trainer: {error}; nothing was changed", file=sys.stderr)
        return STATE
    print(f"trainer: {error}", file=sys.stderr)
    return USAGE


def verify(paths: Sequence[str]) -> int:
    """Say of each checkpoint folder whether it is whole: exit code 0 when all are, 1 when not."""
    if not paths or paths[0].startswith("-"):
        print("usage: python -m trainer verify CHECKPOINT...", file=sys.stderr)
        return USAGE
    bad = 0
    for path in map(Path, paths):
        problems = checkpoints.verify(path)
        bad += bool(problems)
        for problem in problems:
            print(f"{path}: damaged: {problem}")
        if not problems:
            found = checkpoints.read(path)
            digest = checkpoints.digest(found.state)[:16]
            print(f"{path}: whole: attempt {found.attempt}, step {found.step}, digest {digest}")
    return 1 if bad else 0


def _say(text: str) -> None:
    print(text, flush=True)


def _say_nothing(_text: str) -> None:
    """A rank that is not the first: it would say the same."""


if __name__ == "__main__":
    sys.exit(main())
