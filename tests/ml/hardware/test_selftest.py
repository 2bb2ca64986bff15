from pathlib import Path

import pytest

from ml.hardware import Tier, selftest


def test_it_prints_what_each_call_costs_and_the_share_of_a_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(selftest, "LOOKS", 2)
    text = selftest.describe_costs(selftest.measure_costs(tmp_path))
    assert "host memory" in text
    assert "processes" in text
    assert "every  1 s:" in text
    assert "% of one core." in text


def test_the_share_counts_every_look_in_its_turn() -> None:
    bill = selftest.Bill([], {Tier.FAST: 0.001, Tier.MEDIUM: 0.010, Tier.SLOW: 0.060}, None)
    assert bill.share_of_a_core == pytest.approx(0.1 + 0.2 + 0.1)
