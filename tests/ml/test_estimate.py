"""The arithmetic of an estimate, against what is built and measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ml.config import GradientConfig, parse_config
from ml.data import DataError
from ml.data.builtin import builtin_dataset
from ml.estimate import (
    Sizes,
    count_steps,
    count_steps_of,
    estimate_disk,
    estimate_memory,
    network_sizes,
)
from ml.rundir import RunDir
from ml.train import model
from ml.train.look import look
from ml.train.loop import Training
from ml.train.ranks import Ranks
from ml.train.recipes import make_task
from tests.ml.train.language import SCRATCH, make_rows

GIVEN: dict[str, Any] = {"dataset": "d", "hidden_sizes": [16, 8], "channels": [4, 8]}
CONFIG = parse_config(GIVEN).to_dict()


def config_of(folder: Path, **fields: Any) -> GradientConfig:
    parsed = parse_config({"dataset": {"path": str(folder)}, **fields})
    assert isinstance(parsed, GradientConfig)
    return parsed


def test_steps_are_counted_as_the_loop_counts_them() -> None:
    config = {**CONFIG, "batch_size": 32, "gradient_accumulation": 2, "epochs": 3}
    steps = count_steps(config, 150)
    assert (steps.training_samples, steps.validation_samples) == (120, 30)
    assert (steps.steps_per_epoch, steps.steps) == (2, 6)


def test_packed_texts_are_counted_as_blocks_by_a_look(tmp_path: Path) -> None:
    dataset = make_rows(tmp_path / "data", [{"text": "la " * 50}] * 20)
    config = config_of(dataset, recipe="causal", max_length=24, batch_size=4, **SCRATCH)
    seen = look(config, samples=2)
    steps = count_steps_of(config.to_dict(), seen["training_samples"], seen["validation_samples"])
    task = make_task(config, tmp_path, torch.device("cpu"), lambda message: None)
    training = Training(RunDir(tmp_path), 1, config, task, None, Ranks())
    assert seen["training_samples"] > 16
    assert (steps.steps_per_epoch, steps.steps) == (training.steps_per_epoch, training.total_steps)


@pytest.mark.parametrize(
    ("shape", "architecture"), [([13], "mlp"), ([1, 28, 28], "cnn"), ([3, 7, 1], "cnn")]
)
def test_the_weights_reckoned_are_the_weights_built(shape: list[int], architecture: str) -> None:
    sizes = network_sizes(CONFIG, shape, 10)
    built = model.build(
        {
            "architecture": architecture,
            "input_shape": shape,
            "hidden_sizes": [16, 8],
            "channels": [4, 8],
            "dropout": 0.1,
            "output_size": 10,
        }
    )
    assert sizes.parameters == sum(each.numel() for each in built.parameters())


@pytest.mark.parametrize("name", ["iris", "digits28"])
def test_the_activations_reckoned_are_near_those_that_autograd_keeps(
    tmp_path: Path, name: str
) -> None:
    builtin_dataset(name, tmp_path)
    seen = look(config_of(tmp_path), samples=2)
    shape = [4] if name == "iris" else [1, 28, 28]
    config = parse_config({"dataset": "d"}).to_dict()
    reckoned = network_sizes(config, shape, 3 if name == "iris" else 10)
    assert seen["parameters"] == reckoned.parameters
    ratio = reckoned.activation_bytes_per_sample / seen["activation_bytes_per_sample"]
    assert 0.6 < ratio < 1.6


def test_memory_counts_what_the_optimizer_keeps_of_trained_weights_alone() -> None:
    sizes = Sizes(parameters=1000, trainable_parameters=100, activation_bytes_per_sample=50.0)
    memory = estimate_memory({**CONFIG, "batch_size": 8, "optimizer": "adam"}, sizes, on_gpu=True)
    assert (memory.weights_bytes, memory.gradients_bytes) == (4000, 400)
    assert (memory.optimizer_bytes, memory.activations_bytes) == (800, 400)
    assert memory.needed_bytes == 5600 + memory.process_bytes


def test_the_disk_holds_the_newest_the_best_and_one_being_written() -> None:
    sizes = Sizes(parameters=1000, trainable_parameters=1000, activation_bytes_per_sample=0)
    config = {**CONFIG, "optimizer": "sgd", "keep_checkpoints": 2}
    disk = estimate_disk(config, sizes)
    assert (disk.checkpoint_bytes, disk.kept, disk.model_bytes) == (8000, 4, 4000)
    assert disk.needed_bytes == 36_000
    assert estimate_disk(config, sizes, prepared_bytes=500).needed_bytes == 36_500


def test_a_look_shows_samples_as_the_model_sees_them(tmp_path: Path) -> None:
    builtin_dataset("iris", tmp_path)
    seen = look(config_of(tmp_path), samples=5)
    samples = seen["samples"]
    assert samples["columns"][-1] == "label"
    assert len(samples["rows"]) == 5
    assert samples["rows"][0][-1] == "setosa (class 0)"
    assert samples["rows"][-1][-1] == "virginica (class 2)"
    assert all(abs(cell) < 5 for row in samples["rows"] for cell in row[:-1])  # standardised
    assert (seen["training_samples"], seen["validation_samples"]) == (120, 30)


def test_a_look_shows_images_as_pictures_with_their_range(tmp_path: Path) -> None:
    builtin_dataset("digits", tmp_path)
    row = look(config_of(tmp_path), samples=1)["samples"]["rows"][0]
    assert row[0].startswith("data:image/png;base64,")
    assert row[1] == "1 × 8 × 8"
    assert row[2] < 0 < row[3]


def test_a_category_is_a_column_for_each_of_its_values(tmp_path: Path) -> None:
    from ml.data.importer import import_dataset

    (tmp_path / "t.csv").write_text("colour,size,label\nred,1,a\nblue,2,b\nred,3,a\nblue,4,b\n")
    import_dataset(tmp_path, "t.csv", None, None)
    samples = look(config_of(tmp_path, validation_split=0), samples=4)["samples"]
    assert samples["columns"] == ["colour = blue", "colour = red", "size", "label"]
    assert samples["rows"][0][:2] == [0.0, 1.0]


def test_data_that_cannot_be_learned_from_is_refused_with_its_sentence(tmp_path: Path) -> None:
    builtin_dataset("diabetes", tmp_path)
    with pytest.raises(DataError, match="classes"):
        look(config_of(tmp_path, loss_function="bce"), samples=1)


def test_a_look_leaves_no_gradient_behind(tmp_path: Path) -> None:
    builtin_dataset("iris", tmp_path)
    before = torch.is_grad_enabled()
    look(config_of(tmp_path), samples=1)
    assert torch.is_grad_enabled() is before
