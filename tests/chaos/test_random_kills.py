"""The random twin of the failpoints: a whole server under kill -9, again and again."""

from pathlib import Path

import pytest

from benchmarks.chaos import unleash

KILLS = 30


@pytest.mark.slow
@pytest.mark.xdist_group("chaos")
@pytest.mark.timeout(1500)
def test_thirty_kills_at_random_moments_lose_nothing(tmp_path: Path) -> None:
    """No whole cluster and no worker here: test_faults has them, and each costs half a minute."""
    chaos, damage = unleash(tmp_path, KILLS, seed=1, trainer=3, launcher=2)
    assert chaos.killed.total() == KILLS
    assert not any(damage.values()), damage
