"""From a dataset and a configuration to arrays a network can learn from.

Statistics (means, categories, scales) come from the training part only, so that the
validation part says something about rows never seen. Memory holds the targets, a column of
numbers, and a batch of anything else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ml.config import CLASSIFICATION_LOSSES, REGRESSION_LOSSES, DatasetReference, NetworkConfig
from ml.data import DataError, Images, Table, load
from ml.data.content import Column, hash_values
from ml.data.loader import read_version_schema
from ml.data.target import MAX_CLASSES, classes_of
from ml.train import model
from ml.train.errors import TrainingFailed
from ml.train.held_back import hold_back
from ml.train.inputs import ImageInputs, Inputs, TableInputs, write_table
from ml.train.prepared import FOLDER, make_once
from ml.train.task import Check, no_check, split

MAX_CATEGORIES = 100
CELLS = "cells.float32"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    task: str
    loss_function: str
    network: dict[str, Any]
    """What model.build() takes; becomes the exported config.json."""
    preprocess: dict[str, Any]
    """What model.encode() and model.decode() take; becomes the exported preprocess.json."""
    inputs: Inputs
    targets: np.ndarray
    """Class numbers (int64) or standardised numbers (float32)."""
    train_rows: np.ndarray
    validation_rows: np.ndarray
    warnings: list[str]


def prepare(config: NetworkConfig, folder: Path, check: Check = no_check) -> Prepared:
    """Raises TrainingFailed with data_error or spec_error; relative paths start at `folder`."""
    data = load_data(config.dataset, config.target, folder)
    target, target_name = target_of(data)
    task = decide_task(config, target)
    if task == "classification":
        targets, classes = encode_classes(target)
    else:
        targets, classes = encode_numbers(target), None
    loss_function = decide_loss(config, task, len(classes or []))
    refuse_without_effect(config, loss_function)
    warnings: list[str] = []
    train_rows, validation_rows = hold_back(
        targets,
        config.validation_split,
        config.seed,
        splits=data.splits if isinstance(data, Table) else None,
        groups=data.groups if isinstance(data, Table) else None,
        warn=warnings.append,
    )
    inputs: Inputs
    if isinstance(data, Images):
        preprocess, inputs = _prepare_images(data, train_rows)
    else:
        preprocess = _prepare_table(data, train_rows, warnings)
        inputs = _open_table(data, preprocess, config, folder, check)
    preprocess |= {"target": target_name, "classes": classes}
    if classes is None:
        targets, scale = _standardise(targets, train_rows)
        preprocess |= scale
    is_single = task == "regression" or loss_function == "bce"
    return Prepared(
        task=task,
        loss_function=loss_function,
        network={
            "task": task,
            "loss_function": loss_function,
            "output_size": 1 if is_single else len(classes or []),
            **_layers(config, inputs, is_image=isinstance(data, Images)),
        },
        preprocess=preprocess,
        inputs=inputs,
        targets=targets,
        train_rows=train_rows,
        validation_rows=validation_rows,
        warnings=warnings,
    )


def load_data(
    reference: str | DatasetReference, target: str | None, folder: Path
) -> Table | Images:
    """The rows to learn from; `target` overrides the column that the reference names."""
    if not isinstance(reference, DatasetReference):
        raise TrainingFailed(
            "spec_error", f"dataset must say where it lies ({{'path': …}}), got {reference!r}"
        )
    try:
        return load(folder / reference.path, target or reference.target)
    except DataError as error:
        raise TrainingFailed("data_error", str(error)) from error


def target_of(data: Table | Images) -> tuple[np.ndarray, str | None]:
    if isinstance(data, Images):
        target, name = data.labels, "label"
    elif data.target is None:
        raise TrainingFailed("data_error", "The dataset has no column to learn: name a target.")
    else:
        target, name = data.target, data.target_name or "target"
    empty = np.flatnonzero(_is_empty(target))
    if len(empty):
        raise TrainingFailed(
            "data_error",
            f"The target {name!r} is empty or infinite in row {empty[0] + 1}"
            f"{_and_more(len(empty) - 1)}: fill or remove what has no target.",
        )
    if len(target) < 2:
        raise TrainingFailed("data_error", f"{len(target)} rows are too few to learn from.")
    return target, name


def decide_task(config: NetworkConfig, target: np.ndarray) -> str:
    """The task named, else the one the loss needs, else what the dataset's page says it is."""
    if config.task != "auto":
        return config.task
    if config.loss_function in CLASSIFICATION_LOSSES:
        return "classification"
    if config.loss_function in REGRESSION_LOSSES:
        return "regression"
    return task_of(target)


def task_of(target: np.ndarray) -> str:
    """Classification for texts and for a few whole numbers, as the dataset's page says."""
    if target.dtype.kind not in "iuf":
        return "classification"
    column = Column("", "number" if target.dtype.kind == "f" else "integer", target)
    return "regression" if classes_of(column) is None else "classification"


def decide_loss(config: NetworkConfig, task: str, class_count: int) -> str:
    name = config.loss_function
    if name == "auto":
        return "cross_entropy" if task == "classification" else "mse"
    if name == "bce" and class_count != 2:
        raise TrainingFailed(
            "spec_error", f"loss_function bce needs two classes; the target has {class_count}."
        )
    return name


def refuse_without_effect(config: NetworkConfig, loss_function: str) -> None:
    """What only the data decides: the same conflicts that a configuration is refused for."""
    if config.label_smoothing and loss_function != "cross_entropy":
        sentence = "label_smoothing has an effect on cross_entropy only"
        raise TrainingFailed("spec_error", f"{sentence}; the loss is {loss_function}.")
    if config.class_weights != "none" and loss_function not in CLASSIFICATION_LOSSES:
        sentence = "class_weights has an effect on classes only; the target holds numbers."
        raise TrainingFailed("spec_error", sentence)


def encode_classes(target: np.ndarray) -> tuple[np.ndarray, list[Any]]:
    """Class numbers (int64), and the classes in their order."""
    found = {value: _plain(value) for value in set(target.tolist())}
    classes = sorted(set(found.values()), key=lambda label: (isinstance(label, str), label))
    if len(classes) < 2:
        sentence = f"The target has one class only ({classes[0]!r}): there is nothing to tell."
        raise TrainingFailed("data_error", sentence)
    if len(classes) > MAX_CLASSES:
        raise TrainingFailed(
            "data_error",
            f"The target has {len(classes)} different values; at most {MAX_CLASSES} can be "
            "classes. Choose task regression, or another target.",
        )
    places = {label: place for place, label in enumerate(classes)}
    numbers = (places[found[value]] for value in target.tolist())
    return np.fromiter(numbers, np.int64, len(target)), classes


def encode_numbers(target: np.ndarray) -> np.ndarray:
    try:
        return target.astype(np.float64)
    except (TypeError, ValueError) as error:
        sentence = f"The target must hold numbers for a regression: {error}"
        raise TrainingFailed("data_error", sentence) from error


def _prepare_images(data: Images, train_rows: np.ndarray) -> tuple[dict[str, Any], ImageInputs]:
    pixels = data.pixels
    if pixels.dtype.kind == "f":
        parts = split(np.arange(len(pixels)), 1024)
        finite = [np.isfinite(pixels[part]).all(axis=(1, 2, 3)) for part in parts]
        broken = np.flatnonzero(~np.concatenate(finite))
        if len(broken):
            sentence = f"Image {broken[0] + 1} holds NaN or infinite pixels"
            raise TrainingFailed("data_error", f"{sentence}{_and_more(len(broken) - 1)}.")
    mean, std = _image_scale(pixels, train_rows)
    preprocess = {
        "kind": "image",
        "image_shape": list(pixels.shape[1:]),
        "mean": mean.tolist(),
        "std": np.where(std > 0, std, 1.0).tolist(),
    }
    return preprocess, ImageInputs(model.encode_images(preprocess, pixels))


def _image_scale(pixels: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each channel, in parts: float64 copies of all would be eight-fold."""
    count, total, squares = 0, np.zeros(pixels.shape[3]), np.zeros(pixels.shape[3])
    for some in split(rows, 1024):
        part = pixels[some].astype(np.float64)
        count += part[..., 0].size
        total += part.sum(axis=(0, 1, 2))
        squares += (part**2).sum(axis=(0, 1, 2))
    mean = total / count
    return mean, np.sqrt(np.maximum(squares / count - mean**2, 0))


def _prepare_table(data: Table, train_rows: np.ndarray, warnings: list[str]) -> dict[str, Any]:
    if not data.names:
        raise TrainingFailed("data_error", "The dataset has no column besides the target.")
    encodings = {
        name: column_encoding(name, _read_column(data, name), train_rows, warnings)
        for name in data.names
    }
    return {"kind": "table", "columns": data.names, "encodings": encodings}


def _read_column(data: Table, name: str) -> Iterable[np.ndarray]:
    """Numbers at once, for their mean is one of all; texts in parts."""
    if data.rows.column(name).type != "string":
        return [data.features[name]]
    return (columns[name] for columns in data.batches([name]))


def _open_table(
    data: Table, preprocess: dict[str, Any], config: NetworkConfig, folder: Path, check: Check
) -> TableInputs:
    """The rows as numbers; a run that is resumed finds them in its folder."""

    def write(made: Path) -> None:
        write_table(made / CELLS, preprocess, data.batches(data.names), check)

    prepared = folder / FOLDER / "table"
    made_of = {"config": config.to_dict(), "dataset": _sha256(config, folder)}
    make_once(prepared, {**made_of, "preprocess": preprocess}, write)
    return TableInputs(prepared / CELLS, preprocess)


def _sha256(config: NetworkConfig, folder: Path) -> str:
    assert isinstance(config.dataset, DatasetReference)  # it is loaded
    sha256: str = read_version_schema(folder / config.dataset.path)["sha256"]
    return sha256


def column_encoding(
    name: str, batches: Iterable[np.ndarray], train_rows: np.ndarray, warnings: list[str]
) -> dict[str, Any]:
    """How a column, which comes in parts, is made numbers."""
    empty, row = 0, 0
    known: list[np.ndarray] = []
    hashes: list[np.ndarray] = []
    categories: set[str] = set()
    for values in batches:
        first, last = np.searchsorted(train_rows, (row, row + len(values)))
        learned = values[train_rows[first:last] - row]
        row += len(values)
        empty += int(_is_empty(values).sum())
        if values.dtype.kind in "biuf":
            known.append(learned)
            continue
        texts = learned[~_is_empty(learned)]
        hashes.append(np.unique(hash_values(texts)))
        if len(categories) <= MAX_CATEGORIES:
            categories.update(texts.tolist())
    if empty:
        instead = "the mean of the column" if known else "no category"
        rows = "1 row" if empty == 1 else f"{empty} rows"
        warnings.append(f"Column {name!r} is empty or infinite in {rows}; {instead} is used.")
    if known:
        return _number_encoding(name, known[0] if len(known) == 1 else np.concatenate(known))
    return _category_encoding(name, categories, len(np.unique(np.concatenate(hashes))))


def _number_encoding(name: str, values: np.ndarray) -> dict[str, Any]:
    is_finite = np.isfinite(values)
    numbers = values.astype(np.float64, copy=False)
    if not is_finite.all():
        numbers = numbers[is_finite]
    if not len(numbers):
        raise TrainingFailed(
            "data_error", f"Column {name!r} has no values to learn from: remove it."
        )
    std = float(numbers.std())
    return {"kind": "number", "mean": float(numbers.mean()), "std": std if std > 0 else 1.0}


def _category_encoding(name: str, categories: set[str], count: int) -> dict[str, Any]:
    """`categories` may lack some where there are too many of them."""
    if not count:
        raise TrainingFailed(
            "data_error", f"Column {name!r} has no values to learn from: remove it."
        )
    if count > MAX_CATEGORIES:
        raise TrainingFailed(
            "data_error",
            f"Column {name!r} has {count} different texts; at most {MAX_CATEGORIES} "
            "can be categories. Remove the column, or group its values.",
        )
    return {"kind": "category", "categories": sorted(categories)}


def _standardise(
    targets: np.ndarray, train_rows: np.ndarray
) -> tuple[np.ndarray, dict[str, float]]:
    mean, std = float(targets[train_rows].mean()), float(targets[train_rows].std())
    std = std if std > 0 else 1.0
    scaled = ((targets - mean) / std).astype(np.float32)
    return scaled, {"target_mean": mean, "target_std": std}


def _layers(config: NetworkConfig, inputs: Inputs, *, is_image: bool) -> dict[str, Any]:
    architecture = config.architecture
    if architecture == "auto":
        architecture = "cnn" if is_image else "mlp"
    if architecture == "cnn" and not is_image:
        sentence = "architecture cnn needs images; choose mlp or auto for a table."
        raise TrainingFailed("spec_error", sentence)
    height, width, channels = inputs.shape if is_image else (0, 0, 0)
    return {
        "architecture": architecture,
        "input_shape": [channels, height, width] if is_image else list(inputs.shape),
        "hidden_sizes": list(config.hidden_sizes),
        "channels": list(config.channels) if architecture == "cnn" else [],
        "dropout": config.dropout,
    }


def _is_empty(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        empty: np.ndarray = ~np.isfinite(values)
        return empty
    if values.dtype.kind != "O":
        return np.zeros(len(values), bool)
    return np.array([cell is None for cell in values.tolist()], bool)


def _plain(value: Any) -> Any:
    """1.0 and 1 are the same class; it is shown as 1."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _and_more(count: int) -> str:
    return f" (and {count} more)" if count else ""
