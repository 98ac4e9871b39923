"""The soak's short form: two fixed seeds, a few simulated hours each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.__main__ import tell


@pytest.mark.parametrize("seed", [1, 2])
def test_simulated_days_full_of_faults_leave_every_invariant_whole(tmp_path: Path, seed: int) -> None:
    """No command twice, no message lost, no healthy run touched, live as replayed; `make soak` goes on."""
    soak = tell(seed, 0.3, tmp_path)
    assert soak.lives.life > 1
    assert soak.faults
