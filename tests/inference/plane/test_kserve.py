"""The Open Inference Protocol as KServe's own client speaks it."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.inference.plane import kserve_client
from tests.inference.plane.conftest import Served
from tests.inference.plane.test_open_inference import ROW, expected
from tests.servers import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("plane")]

RELEASE = "kserve==0.21.0"
CACHE = ROOT / "var" / "test-tools" / RELEASE


@pytest.fixture(scope="module")
def package() -> Path:
    """The folder with KServe's package alone, fetched once."""
    if not CACHE.is_dir():
        CACHE.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE.parent) as folder:
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", RELEASE]
            target = Path(folder) / "kserve"
            done = subprocess.run(
                [*command, "--target", str(target)], capture_output=True, text=True, check=False
            )
            if done.returncode:
                pytest.skip(f"{RELEASE} cannot be fetched: {done.stderr.strip()[-300:]}")
            try:
                target.rename(CACHE)
            except OSError:  # pytest's other process was quicker
                if not CACHE.is_dir():
                    raise
    return CACHE


@pytest.fixture(scope="module")
def answers(served: Served, package: Path) -> dict[str, Any]:
    asked = {
        "url": served.url,
        "headers": {"Authorization": f"Bearer {served.stack.key}"},
        "model": "small",
        "rows": ROW.tolist(),
    }
    done = subprocess.run(
        [sys.executable, kserve_client.__file__, str(package)],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_it_sees_that_server_and_model_are_ready(answers: dict[str, Any]) -> None:
    assert [answers[each] for each in ("live", "ready", "model_ready")] == [True, True, True]


@pytest.mark.parametrize("kind", ["json", "binary"])
def test_it_gets_what_predict_answers(served: Served, answers: dict[str, Any], kind: str) -> None:
    assert answers[kind] == {"id": "seven", "model": "small", "y": expected(served)}


def test_it_is_told_why_it_is_refused(answers: dict[str, Any]) -> None:
    assert "inputs must be a list of tensors" in answers["refusal"]
