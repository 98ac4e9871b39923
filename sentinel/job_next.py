"""The life that follows on a life: after a failure, or after a stop that a rollback asked for.

It is recorded before the present one is ended, with its whole command: which checkpoint it goes on from, and
the parameters that are in force, whoever has set them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sentinel import job_words as words
from sentinel.checkpoints import Checkpoint
from sentinel.config import Settings
from sentinel.control import Letter
from sentinel.job_commands import JobCommands
from sentinel.job_runs import JobRuns
from sentinel.lives import LifeRow, Lives
from sentinel.mail import Mail
from sentinel.restarts import Again, Life, after_failure
from sentinel.resume import resolve


class NextLives:
    """Records what follows. Everything is called inside a transaction."""

    def __init__(
        self, rows: Lives, mail: Mail, settings: Settings, runs: JobRuns, commands: JobCommands
    ) -> None:
        self._rows = rows
        self._mail = mail
        self._settings = settings
        self._runs = runs
        self._commands = commands

    def after_failure(self, story: Sequence[LifeRow], life: LifeRow, now: float) -> None:
        """Record the life that follows on a failure, or give up. `story`: the job's lives, oldest first."""
        self._mail.post(words.failed(life, now), now)
        life = self._with_remedies(life)
        ended = [each for each in story if each.state == "ended" and each.began is not None]
        lives = [Life(each.cause == "restart", each.began or 0.0, each.furthest) for each in ended]
        found = after_failure(lives, self._settings.restart, now)
        if not isinstance(found, Again):
            self._mail.post(words.given_up(ended, found.reason, now), now)
            return
        command, run, target = self._way_back(story, life)
        self._rows.add(
            life.job,
            "restart",
            "due",
            command,
            life.folder,
            reason=f"{life.reason}; {found.reason}",
            due=now + found.delay,
            overrides=life.overrides,
            run=run,
            checkpoint=target.name if target else None,
            step=target.step if target else None,
        )
        self._mail.post(words.waits(life, found.reason, now), now)

    def _with_remedies(self, life: LifeRow) -> LifeRow:
        """The life with all that is in force in it: remedies that its own guard carried out, too."""
        found = dict(life.overrides)
        for run in life.runs:
            own = self._runs.own(run) if run in self._runs else None
            for name in self._commands.set_by_letter(run, life):
                if own is not None and name in own.values:
                    found[name] = own.values[name]
        return replace(life, overrides=found)

    def _way_back(
        self, story: Sequence[LifeRow], life: LifeRow
    ) -> tuple[Sequence[str], str | None, Checkpoint | None]:
        """The command of a restart: from the newest good checkpoint where a resume command is configured."""
        runs = next((each.runs for each in reversed(story) if each.runs), ())
        run = runs[0] if len(runs) == 1 else None
        target = (
            self._runs.newest_good(run) if run is not None and self._settings.resume is not None else None
        )
        if run is None or target is None:
            return life.command, life.run, None
        return self._runs.command(run, target, life.overrides, story[0].command), run, target

    def by_resume(
        self, row: Mapping[str, Any], story: Sequence[LifeRow], life: LifeRow, now: float
    ) -> tuple[str, bool] | None:
        """Record the life that a rollback by a stop and a resume goes on with; refuse one that cannot be.

        Returns:
            Why the present life is to be ended, and whether its trainer was asked to; None where it is not.
        """
        life = self._with_remedies(life)
        run, letter = row["run"], Letter.from_json(row["letter"])
        target = self._runs.checkpoint(run, letter.to_checkpoint)
        declared = self._runs.resumable(life, self._runs.own(run))
        if target is None or self._settings.resume is None:
            self._commands.settle(
                row, "refused", f"checkpoint {letter.to_checkpoint} cannot be resumed from", now
            )
            return None
        changed = resolve(letter.set, declared.values, declared.bounds)
        if isinstance(changed, str):
            self._commands.settle(row, "refused", changed, now)
            return None
        overrides = {**life.overrides, **changed}
        self._rows.add(
            life.job,
            "resume",
            "waiting",
            self._runs.command(run, target, overrides, story[0].command),
            life.folder,
            reason=letter.reason,
            overrides=overrides,
            run=run,
            checkpoint=target.name,
            step=target.step,
            request=letter.id,
        )
        asked = self._runs.ask_to_end(run, f"to go on from {target.name}", now)
        self._commands.note(row, "stopping", "the job is ended, to go on from the checkpoint", now)
        return f"rollback to {target.name}", asked
