"""Control.json as a running training sees it."""

from pathlib import Path
from typing import Any

import pytest

from ml.rundir import RunDir
from ml.train import control
from ml.train.control import Control
from tests.ml.train.runs import events, make_flowers, make_run, start, train, wait_for_events


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    monkeypatch.setattr(control, "POLL_SECONDS", 0)
    return RunDir(tmp_path)


def test_a_wish_stays_until_it_is_obeyed(run: RunDir) -> None:
    wish = Control(run)
    run.write_control("checkpoint")
    assert [wish.wanted(), wish.wanted()] == ["checkpoint", "checkpoint"]
    wish.obeyed()
    assert wish.wanted() == "run"


def test_the_same_wish_can_be_written_again(run: RunDir) -> None:
    wish = Control(run)
    for _ in range(2):
        run.write_control("checkpoint")
        assert wish.wanted() == "checkpoint"
        wish.obeyed()


def test_a_wish_can_be_taken_back(run: RunDir) -> None:
    wish = Control(run)
    run.write_control("pause")
    assert wish.wanted() == "pause"
    run.write_control("run")
    assert wish.wanted() == "run"


def test_without_a_file_it_runs(run: RunDir) -> None:
    assert Control(run).wanted() == "run"


def test_cancel_ends_at_once_without_a_model(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", make_flowers(tmp_path / "data"), epochs=10_000)
    child = start(run)
    wait_for_events(run, 1, 1, child, "epoch")
    run.write_control("cancel")
    assert child.wait() == 0
    result = run.read_result(1) or {}
    assert (result["status"], result["model"]) == ("cancelled", None)
    assert result["metrics"]["val_loss"] > 0
    assert not run.model_path.exists()


def test_checkpoint_saves_one_now_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "POLL_SECONDS", 0)
    fields: dict[str, Any] = {"epochs": 2, "keep_checkpoints": 9}
    run = make_run(tmp_path / "run", make_flowers(tmp_path / "data"), **fields)
    run.write_control("checkpoint")
    assert train(run) == 0
    assert [event["step"] for event in events(run, type="checkpoint")] == [0, 3, 6]
    assert (run.read_result(1) or {})["status"] == "completed"
