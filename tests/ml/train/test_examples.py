"""The example run directory: its files show what a real run of its configuration writes."""

import shutil
from pathlib import Path
from typing import Any

import pytest

import ml
from ml.rundir import RunDir
from tests.ml.train.runs import events, train

EXAMPLE = RunDir(Path(ml.__file__).parent / "examples" / "flowers")


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A copy that has only what goes in."""
    run = RunDir(tmp_path / "flowers")
    run.path.mkdir()
    shutil.copy(EXAMPLE.config_path, run.config_path)
    shutil.copytree(EXAMPLE.path / "dataset", run.path / "dataset")
    assert train(run) == 0
    return run


def told(run: RunDir) -> list[dict[str, Any]]:
    return [event for event in events(run) if event["type"] != "step"]


def test_the_example_shows_the_events_of_a_real_run(run: RunDir) -> None:
    assert [list(event) for event in told(run)] == [list(event) for event in told(EXAMPLE)]
    assert [event["type"] for event in told(run)] == [event["type"] for event in told(EXAMPLE)]
    steps, shown = events(run, type="step"), events(EXAMPLE, type="step")
    assert list(steps[-1]) == list(shown[-1])
    assert steps[-1]["step"] == shown[-1]["step"]


def test_the_example_shows_the_result_of_a_real_run(run: RunDir) -> None:
    shown, real = EXAMPLE.read_result(1) or {}, run.read_result(1) or {}
    assert list(real) == list(shown)
    # Another CPU may round its sums in another way.
    assert real["metrics"] == pytest.approx(shown["metrics"], rel=1e-3)
    assert real["status"] == shown["status"] == "completed"
