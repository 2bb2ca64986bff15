"""Nonsense made from the OpenAPI document: every answer is an answer, none is a 5xx."""

import json
from pathlib import Path

import pytest

from benchmarks.fuzz_api import fuzz
from tests.servers import serving_web

SECONDS = 45


@pytest.mark.slow
@pytest.mark.xdist_group("nonsense")
@pytest.mark.timeout(600)
def test_no_nonsense_makes_the_server_fail(tmp_path: Path) -> None:
    """As much as goes into the time; `python -m benchmarks.fuzz_api` asks thousands."""
    report = tmp_path / "report.json"
    with serving_web(tmp_path / "var", LOG_LEVEL="CRITICAL") as stack:
        code = fuzz(stack, report, cases=5, seed=1, seconds=SECONDS)
    found = json.loads(report.read_text())
    assert code == 0, found["failures"]
    assert found["test_cases"]["generated"] > 0
