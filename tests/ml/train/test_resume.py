"""An interrupted training ends with the same weights and metrics as an undisturbed one."""

import json
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from ml.rundir import RunDir
from ml.train import checkpoint
from ml.train.control import POLL_SECONDS, Control
from ml.train.loop import Training
from ml.train.recipes.generation import GenerationTask
from ml.train.task import Check
from tests.ml.train.language import (
    SCRATCH,
    make_base,
    make_language_run,
    make_rows,
    rows_for,
)
from tests.ml.train.runs import (
    events,
    history,
    make_flowers,
    make_pictures,
    make_run,
    start,
    train,
    wait_for_events,
)

FIELDS: dict[str, Any] = {
    "architecture": "cnn",
    "channels": [4],
    "epochs": 8,
    "batch_size": 4,
    "scheduler": "cosine",
    "warmup_ratio": 0.2,
    "dropout": 0.3,
    "gradient_accumulation": 2,
}


def weights(run: RunDir) -> bytes:
    return (run.model_path / "model.safetensors").read_bytes()


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return make_pictures(tmp_path / "data")


@pytest.fixture
def undisturbed(tmp_path: Path, dataset: Path) -> RunDir:
    run = make_run(tmp_path / "undisturbed", dataset, **FIELDS)
    assert train(run) == 0
    return run


def test_kill_9_at_random_moments_changes_neither_weights_nor_metrics(
    tmp_path: Path, dataset: Path, undisturbed: RunDir
) -> None:
    run = make_run(tmp_path / "killed", dataset, **FIELDS)
    for attempt in (1, 2):
        child = start(run, attempt)
        wait_for_events(run, attempt, random.randint(1, 6), child)  # a few steps of 20 a second
        child.kill()
        child.wait()
    assert train(run, attempt=3) == 0
    assert weights(run) == weights(undisturbed)
    assert history(run, 3) == history(undisturbed, 1)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop", "adagrad", "nadam"])
def test_a_pause_in_mid_epoch_is_exact_for_every_optimizer(tmp_path: Path, optimizer: str) -> None:
    dataset = make_flowers(tmp_path / "data", 40)
    fields: dict[str, Any] = {"optimizer": optimizer, "batch_size": 4, "epochs": 3}
    whole = make_run(tmp_path / "whole", dataset, **fields)
    train(whole)
    run = make_run(tmp_path / "paused", dataset, **fields)
    pause_at_once(run)
    assert train(run, attempt=2) == 0
    assert weights(run) == weights(whole)
    assert history(run, 2) == history(whole, 1)


def pause_at_once(run: RunDir) -> None:
    run.write_control("pause")
    assert train(run, attempt=1) == 0
    assert (run.read_result(1) or {})["status"] == "paused"
    run.write_control("run")


def test_a_pause_while_it_runs_is_exact_and_told(
    tmp_path: Path, dataset: Path, undisturbed: RunDir
) -> None:
    run = make_run(tmp_path / "paused", dataset, **{**FIELDS, "epochs": 2000})
    child = start(run)
    wait_for_events(run, 1, 3, child)
    run.write_control("pause")
    assert child.wait() == 0
    [paused] = events(run, 1, "paused")
    assert (run.read_result(1) or {})["status"] == "paused"
    checkpoint = run.complete_checkpoints()[-1]
    state = json.loads((checkpoint / "state.json").read_text())
    assert (state["step"], state["epoch"]) == (paused["step"], paused["epoch"])


def test_a_pause_in_mid_epoch_continues_in_mid_epoch(
    tmp_path: Path, dataset: Path, undisturbed: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "paused", dataset, **FIELDS)
    pause_at_step(run, 17, monkeypatch)
    assert train(run, attempt=2) == 0
    [started] = events(run, 2, "started")
    assert (started["resumed_from_step"], started["resumed_from_epoch"]) == (17, 1)
    assert weights(run) == weights(undisturbed)
    assert history(run, 2) == history(undisturbed, 1)


def pause_at_step(run: RunDir, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wish arrives just before that step's successor; so exact cannot be timed by a file."""
    obey = Training._obey

    def obey_at(training: Training) -> None:
        if training.progress.step == step:
            run.write_control("pause")
            training.control = Control(run)
        obey(training)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_obey", obey_at)
        assert train(run, attempt=1) == 0
    run.write_control("run")


LANGUAGE: dict[str, dict[str, Any]] = {
    "text2text": SCRATCH,
    "causal": {**SCRATCH, "gradient_accumulation": 2, "batch_size": 4, "precision": "bf16"},
    "classify": {**SCRATCH, "gradient_checkpointing": True},
}


@pytest.mark.parametrize("recipe", LANGUAGE)
def test_a_language_model_continues_in_mid_epoch(
    tmp_path: Path, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_rows(tmp_path / "data", rows_for(recipe))
    fields = LANGUAGE[recipe]
    whole = make_language_run(tmp_path / "whole", recipe, dataset, **fields)
    assert train(whole) == 0
    run = make_language_run(tmp_path / "paused", recipe, dataset, **fields)
    pause_at_step(run, 6, monkeypatch)
    assert train(run, attempt=2) == 0
    assert events(run, 2, "started")[0]["resumed_from_step"] == 6
    assert weights(run) == weights(whole)
    assert history(run, 2) == history(whole, 1)


def test_adapters_continue_in_mid_epoch_on_the_same_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_rows(tmp_path / "data", rows_for("causal"))
    base = {"path": str(make_base(tmp_path / "base", "causal"))}
    fields = {"base_model": base, "lora_rank": 2, "lora_dropout": 0.2}
    whole = make_language_run(tmp_path / "whole", "causal", dataset, **fields)
    assert train(whole) == 0
    run = make_language_run(tmp_path / "paused", "causal", dataset, **fields)
    pause_at_step(run, 6, monkeypatch)
    assert train(run, attempt=2) == 0
    assert weights(run) == weights(whole)


def test_a_language_model_is_cancelled_between_its_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_rows(tmp_path / "data", rows_for("causal"))
    run = make_language_run(tmp_path / "run", "causal", dataset, **SCRATCH)

    def cancel(task: GenerationTask, row: int, check: Check) -> dict[str, str]:
        run.write_control("cancel")
        time.sleep(POLL_SECONDS)  # the wish is looked for no more often
        check()
        raise AssertionError("it went on")

    monkeypatch.setattr(GenerationTask, "_sample", cancel)
    assert train(run) == 0
    assert (run.read_result(1) or {})["status"] == "cancelled"


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_used(
    tmp_path: Path, dataset: Path, undisturbed: RunDir
) -> None:
    run = RunDir(tmp_path / "damaged")
    shutil.copytree(undisturbed.path, run.path)
    newest, before = run.complete_checkpoints()[-1], run.complete_checkpoints()[-2]
    flip_a_byte(newest / "model.safetensors")
    assert train(run, attempt=2) == 0
    assert (run.checkpoints_path / f"unused-{newest.name}").is_dir()
    warnings = " ".join(event["message"] for event in events(run, 2, "warning"))
    assert f"Checkpoint {newest.name} is damaged" in warnings
    [started] = events(run, 2, "started")
    assert started["resumed_from_step"] == int(before.name.removeprefix("step-"))
    assert weights(run) == weights(undisturbed)


def test_a_checkpoint_of_another_format_is_set_aside_and_it_begins_anew(
    tmp_path: Path, undisturbed: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(tmp_path / "older")
    shutil.copytree(undisturbed.path, run.path)
    kept = len(run.complete_checkpoints())
    monkeypatch.setattr(checkpoint, "FORMAT", checkpoint.FORMAT + 1)
    assert train(run, attempt=2) == 0
    told = [event["message"] for event in events(run, 2, "warning")]
    assert len([each for each in told if "is of format 1, and this version reads" in each]) == kept
    assert events(run, 2, "started")[0]["resumed_from_step"] == 0
    assert weights(run) == weights(undisturbed)


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_partial_checkpoint_is_set_aside(
    tmp_path: Path, dataset: Path, undisturbed: RunDir
) -> None:
    run = RunDir(tmp_path / "partial")
    shutil.copytree(undisturbed.path, run.path)
    newest = run.complete_checkpoints()[-1]
    (newest / "COMPLETE").unlink()
    (run.checkpoints_path / ".tmp-step-000999").mkdir()
    assert train(run, attempt=2) == 0
    assert not (run.checkpoints_path / ".tmp-step-000999").exists()
    assert weights(run) == weights(undisturbed)


def test_an_attempt_after_the_last_epoch_only_writes_the_model(
    tmp_path: Path, dataset: Path, undisturbed: RunDir
) -> None:
    run = RunDir(tmp_path / "again")
    shutil.copytree(undisturbed.path, run.path)
    shutil.rmtree(run.model_path)
    assert train(run, attempt=2) == 0
    assert events(run, 2, "step") == []
    assert weights(run) == weights(undisturbed)
    assert (run.read_result(2) or {})["metrics"] == (undisturbed.read_result(1) or {})["metrics"]


def test_patience_is_remembered_across_a_pause(tmp_path: Path) -> None:
    dataset = make_flowers(tmp_path / "data")
    fields: dict[str, Any] = {"epochs": 200, "early_stopping_patience": 2, "learning_rate": 0.3}
    whole = make_run(tmp_path / "whole", dataset, optimizer="sgd", **fields)
    train(whole)
    run = RunDir(tmp_path / "again")
    shutil.copytree(whole.path, run.path)
    newest = run.complete_checkpoints()[-1]
    shutil.rmtree(newest)
    assert train(run, attempt=2) == 0
    assert history(run, 2) == history(whole, 1)
