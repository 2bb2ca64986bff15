"""ml.train from config.json to result.json: what is learned, written and told."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ml.config import describe
from ml.data.builtin import builtin_dataset
from ml.exits import EXIT_CODES
from ml.rundir import read_json
from ml.train.steps import loss_of
from tests.ml.train.runs import (
    events,
    make_flowers,
    make_line,
    make_pictures,
    make_run,
    make_table,
    train,
)


def test_digits_are_learned_to_97_percent(tmp_path: Path) -> None:
    folder = tmp_path / "digits" / "v1"
    folder.mkdir(parents=True)
    builtin_dataset("digits", folder)
    fields: dict[str, Any] = {"architecture": "cnn", "epochs": 12, "batch_size": 64}
    run = make_run(tmp_path / "run", folder, hidden_sizes=[64, 64], optimizer="adam", **fields)
    assert train(run) == 0
    result = run.read_result(1)
    assert result is not None
    assert result["status"] == "completed"
    assert result["epochs"] == 12
    assert result["metrics"]["val_accuracy"] >= 0.97
    assert result["metrics"]["macro_f1"] >= 0.97


def test_a_table_with_numbers_categories_and_gaps_is_learned(tmp_path: Path) -> None:
    dataset = make_flowers(tmp_path / "data")
    run = make_run(tmp_path / "run", dataset, epochs=20, batch_size=8, learning_rate=0.01)
    assert train(run) == 0
    result = run.read_result(1) or {}
    assert result["metrics"]["val_accuracy"] >= 0.9
    [warning] = events(run, type="warning")
    assert (
        warning["message"]
        == "Column 'length' is empty or infinite in 1 row; the mean of the column is used."
    )


def test_a_quantity_is_learned_and_told_in_its_own_units(tmp_path: Path) -> None:
    dataset = make_line(tmp_path / "data")
    run = make_run(tmp_path / "run", dataset, epochs=60, batch_size=8, learning_rate=0.01)
    assert train(run) == 0
    metrics = (run.read_result(1) or {})["metrics"]
    assert metrics["mae"] < 1.5
    assert metrics["mae"] <= metrics["rmse"]
    assert metrics["r2"] > 0.9
    assert "val_accuracy" not in metrics
    assert events(run, type="evaluated") == []


def test_events_come_in_the_promised_order(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", make_flowers(tmp_path / "data"), epochs=2)
    train(run)
    told = [event for event in events(run) if event["type"] not in ("step", "log", "warning")]
    epoch = ["checkpoint", "evaluated", "epoch"]
    assert [event["type"] for event in told] == [
        "environment",
        "started",
        *epoch,
        *epoch,
        "completed",
    ]
    assert [event["seq"] for event in events(run)] == list(range(1, len(events(run)) + 1))
    assert told[1]["total_steps"] == 2 * 3
    assert told[1]["history"] == []
    assert sum(map(sum, told[3]["confusion"])) == 18
    assert told[3]["classes"] == ["a", "b", "c"]


def test_a_step_says_what_a_chart_needs(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", make_flowers(tmp_path / "data"), epochs=1)
    train(run)
    step = events(run, type="step")[-1]
    assert (step["step"], step["epoch"], step["learning_rate"]) == (3, 1, 0.001)
    parts = ("data_seconds", "compute_seconds", "optimizer_seconds")
    for name in ("loss", "grad_norm", "samples_per_second", *parts):
        assert step[name] >= 0
    [epoch] = events(run, type="epoch")
    assert 0 < epoch["extra"]["validation_seconds"] < epoch["extra"]["duration_seconds"]
    assert events(run, type="checkpoint")[0]["seconds"] > 0


def test_only_the_newest_and_the_best_checkpoint_are_kept(tmp_path: Path) -> None:
    dataset = make_flowers(tmp_path / "data")
    run = make_run(tmp_path / "run", dataset, epochs=6, keep_checkpoints=1, learning_rate=0.5)
    train(run)
    best = [event["step"] for event in events(run, type="checkpoint") if event["best"]][-1]
    kept = {int(folder.name[5:]) for folder in run.complete_checkpoints()}
    assert kept == {best, 18}
    assert (run.read_result(1) or {})["metrics"]["best_epoch"] == best // 3


def test_without_validation_nothing_is_held_back_and_the_last_weights_count(tmp_path: Path) -> None:
    dataset = make_flowers(tmp_path / "data")
    run = make_run(tmp_path / "run", dataset, validation_split=0)
    assert train(run) == 0
    metrics = (run.read_result(1) or {})["metrics"]
    assert set(metrics) == {"loss", "accuracy", "best_epoch"}
    assert metrics["best_epoch"] == 3


def test_patience_ends_a_training_that_no_longer_improves(tmp_path: Path) -> None:
    dataset = make_flowers(tmp_path / "data")
    fields: dict[str, Any] = {"epochs": 200, "early_stopping_patience": 2, "learning_rate": 0.3}
    run = make_run(tmp_path / "run", dataset, optimizer="sgd", max_grad_norm=None, **fields)
    assert train(run) == 0
    result = run.read_result(1) or {}
    assert result["epochs"] == result["metrics"]["best_epoch"] + 2 < 200


BASE: dict[str, Any] = {"architecture": "cnn", "channels": [4], "epochs": 2, "batch_size": 16}
CHANGES: dict[str, Any] = {
    "architecture": "mlp",
    "hidden_sizes": [5],
    "channels": [3, 5],
    "dropout": 0.5,
    "epochs": 3,
    "batch_size": 7,
    "learning_rate": 0.02,
    "optimizer": "sgd",
    "scheduler": "cosine",
    "warmup_ratio": 0.5,
    "weight_decay": 0.5,
    "gradient_accumulation": 3,
    "max_grad_norm": 0.001,
    "precision": "bf16",
    "seed": 4,
    "validation_split": 0.5,
    "label_smoothing": 0.2,
}
WITHOUT_WEIGHTS = {
    # Tested where their effect is: the split, the loss, the target, the end, the disk.
    *("session", "recipe", "dataset", "task", "target", "loss_function", "device"),
    *("early_stopping_patience", "checkpoint_every", "keep_checkpoints", "max_duration_seconds"),
    *("num_processes", "class_weights"),
}


def weights(folder: Path, dataset: Path, **fields: Any) -> bytes:
    run = make_run(folder, dataset, **{**BASE, **fields})
    assert train(run) == 0
    return (run.model_path / "model.safetensors").read_bytes()


def test_every_field_that_concerns_learning_changes_what_is_learned(tmp_path: Path) -> None:
    dataset = make_pictures(tmp_path / "data", 40)
    seen = {"": weights(tmp_path / "base", dataset)}
    for name, value in CHANGES.items():
        changed = {name: value} | ({"channels": [32, 64]} if value == "mlp" else {})
        seen[name] = weights(tmp_path / name, dataset, **changed)
    assert len(set(seen.values())) == len(seen)
    assert {field["name"] for field in describe()["network"]["fields"]} == (
        set(CHANGES) | WITHOUT_WEIGHTS
    )


@pytest.mark.parametrize("loss", ["cross_entropy", "bce"])
def test_balanced_class_weights_change_what_is_learned_of_rare_classes(
    tmp_path: Path, loss: str
) -> None:
    rows = "".join(f"{n / 9},{'rare' if n % 9 == 0 else 'usual'}\n" for n in range(45))
    dataset = make_table(tmp_path / "data", "x,label\n" + rows)
    fields: dict[str, Any] = {"loss_function": loss, "architecture": "auto", "channels": [32, 64]}
    plain = weights(tmp_path / "plain", dataset, **fields)
    assert plain != weights(tmp_path / "balanced", dataset, class_weights="balanced", **fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"label_smoothing": 0.1}, "label_smoothing has an effect on cross_entropy only"),
        ({"class_weights": "balanced"}, "class_weights has an effect on classes only"),
    ],
)
def test_what_numbers_cannot_have_is_refused_when_the_data_is_seen(
    tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    run = make_run(tmp_path / "run", make_line(tmp_path / "data"), **fields)
    assert train(run) == EXIT_CODES["spec_error"]
    assert words in (run.read_result(1) or {})["error"]["message"]


def test_smoothing_spreads_labels_while_training_and_not_in_the_measure() -> None:
    outputs, targets = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]]), torch.tensor([0, 1])
    logs = outputs.log_softmax(dim=1)
    spread = 0.3 / 3 + 0.7 * torch.eye(3)[targets]
    weights = torch.tensor([1.0, 2.0, 3.0])
    losses = -(spread * logs).sum(dim=1)
    found = loss_of("cross_entropy", outputs, targets, smoothing=0.3)
    assert torch.allclose(found, losses.mean())
    weighted = loss_of("cross_entropy", outputs, targets, weights, 0.3)
    assert torch.allclose(weighted, (losses * weights[targets]).mean())


def test_patience_without_anything_held_back_is_told(tmp_path: Path) -> None:
    rows = "".join(f"{n / 9},{'ab'[n % 2]},train\n" for n in range(20))
    dataset = make_table(tmp_path / "data", "x,label,split\n" + rows)
    run = make_run(tmp_path / "run", dataset, early_stopping_patience=1)
    assert train(run) == 0
    told = [event["message"] for event in events(run, type="warning")]
    assert "early_stopping_patience has no effect: nothing is held back." in told


def test_the_same_configuration_gives_the_same_weights(tmp_path: Path) -> None:
    dataset = make_pictures(tmp_path / "data", 40)
    assert weights(tmp_path / "a", dataset) == weights(tmp_path / "b", dataset)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop", "adagrad", "nadam"])
def test_every_optimizer_learns(tmp_path: Path, optimizer: str) -> None:
    dataset = make_flowers(tmp_path / "data")
    run = make_run(
        tmp_path / "run", dataset, optimizer=optimizer, epochs=8, learning_rate=0.02, batch_size=8
    )
    assert train(run) == 0
    losses = [event["loss"] for event in events(run, type="epoch")]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_every_loss_for_numbers_learns(tmp_path: Path, loss: str) -> None:
    dataset = make_line(tmp_path / "data")
    run = make_run(tmp_path / "run", dataset, loss_function=loss, epochs=8, learning_rate=0.02)
    assert train(run) == 0
    losses = [event["loss"] for event in events(run, type="epoch")]
    assert losses[-1] < 0.8 * losses[0]


def test_two_classes_can_be_learned_with_one_output(tmp_path: Path) -> None:
    dataset = make_flowers(tmp_path / "data")
    run = make_run(tmp_path / "run", dataset, target="colour", loss_function="bce", epochs=2)
    assert train(run) == 0
    assert (read_json(run.model_path / "config.json") or {})["output_size"] == 1


def test_half_precision_learns(tmp_path: Path) -> None:
    dataset = make_pictures(tmp_path / "data")
    run = make_run(tmp_path / "run", dataset, **{**BASE, "precision": "fp16", "epochs": 6})
    assert train(run) == 0
    losses = [event["loss"] for event in events(run, type="epoch")]
    assert losses[-1] < losses[0]
