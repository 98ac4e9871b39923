"""The soak's short form: three fixed seeds, a few simulated hours each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.__main__ import tell


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_simulated_days_full_of_faults_leave_every_invariant_whole(tmp_path: Path, seed: int) -> None:
    """No command twice, no message lost, no healthy run touched, live as replayed; `make soak` goes on."""
    soak = tell(seed, 0.15, tmp_path)
    assert soak.lives.life > 1
    assert soak.faults


def test_a_seed_tells_the_same_story_again(tmp_path: Path) -> None:
    """Else what it has found could not be looked at."""
    stories = []
    for time in ("first", "second"):
        (tmp_path / time).mkdir()
        soak = tell(2, 0.02, tmp_path / time)
        plain = [line.split("/journal.sqlite")[0].rpartition(" ")[0] for line in soak.story]
        stories.append((plain, soak.disk.touches, soak.ticks, soak.faults))
    assert stories[0] == stories[1]
