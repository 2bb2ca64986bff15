"""A few samples as the model will see them: encoded, standardised, cut, tokenised."""

from __future__ import annotations

from typing import Any

import numpy as np

from ml.data.preview import image_url
from ml.train import model
from ml.train.recipes.network import NetworkTask
from ml.train.task import Task

MOST_COLUMNS = 40
MOST_TOKENS = 12
MOST_CHARACTERS = 200


def show_samples(task: Task, rows: np.ndarray) -> dict[str, Any]:
    """{columns, types, rows, columns_total}: lists of cells, as a preview of a dataset has them."""
    if not isinstance(task, NetworkTask):
        return _show_tokens(task, rows)
    if task.data.preprocess["kind"] == "image":
        return _show_images(task, rows)
    return _show_table(task, rows)


def _show_table(task: NetworkTask, rows: np.ndarray) -> dict[str, Any]:
    """Standardised numbers; a category is one column for each of its values, 0 or 1."""
    names = _feature_names(task.data.preprocess)
    inputs = task.data.inputs.take(rows)[:, :MOST_COLUMNS].tolist()
    targets = _show_targets(task, rows)
    return {
        "columns": [*names[:MOST_COLUMNS], _target_name(task)],
        "types": [*["number"] * len(names[:MOST_COLUMNS]), "target"],
        "rows": [[*cells, target] for cells, target in zip(inputs, targets, strict=True)],
        "columns_total": len(names) + 1,
    }


def _feature_names(preprocess: dict[str, Any]) -> list[str]:
    names = []
    for name in preprocess["columns"]:
        encoding = preprocess["encodings"][name]
        if encoding["kind"] == "category":
            names += [f"{name} = {category}" for category in encoding["categories"]]
        else:
            names.append(name)
    return names


def _show_images(task: NetworkTask, rows: np.ndarray) -> dict[str, Any]:
    """Standardised by channel; the picture is scaled from its own darkest to its brightest."""
    tensors = model.to_tensor(task.data.preprocess, task.data.inputs.take(rows))
    shown = []
    for image, target in zip(tensors.numpy(), _show_targets(task, rows), strict=True):
        low, high = float(image.min()), float(image.max())
        picture = image_url(image.transpose(1, 2, 0), low, high)
        shape = " × ".join(map(str, image.shape))
        shown.append([picture, shape, low, high, target])
    return {
        "columns": ["image", "channels × height × width", "min", "max", _target_name(task)],
        "types": ["image", "string", "number", "number", "target"],
        "rows": shown,
        "columns_total": 5,
    }


def _show_tokens(task: Task, rows: np.ndarray) -> dict[str, Any]:
    """The text as its tokens spell it, the first of them, and what is learned of it."""
    from ml.train.recipes.classify import ClassifyTask  # transformers alone takes seconds
    from ml.train.recipes.generation import GenerationTask
    from ml.train.recipes.tokens import IGNORED

    if not isinstance(task, ClassifyTask | GenerationTask):
        raise TypeError(f"{type(task).__name__} has nothing to show")
    shown = []
    for row in rows.tolist():
        tokens = task.inputs[row]
        if isinstance(task, ClassifyTask):
            learned = f"{task.classes[task.targets[row]]} (class {task.targets[row]})"
        else:
            learned = _shorten(task.tokenizer.decode([t for t in task.labels[row] if t != IGNORED]))
        pieces = task.tokenizer.convert_ids_to_tokens(tokens[:MOST_TOKENS])
        spelled = _shorten(task.tokenizer.decode(tokens))
        shown.append([spelled, len(tokens), " ".join(pieces), learned])
    return {
        "columns": ["text", "tokens", f"first {MOST_TOKENS}", "learned"],
        "types": ["string", "integer", "string", "target"],
        "rows": shown,
        "columns_total": 4,
    }


def _shorten(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def _target_name(task: NetworkTask) -> str:
    return str(task.data.preprocess["target"])


def _show_targets(task: NetworkTask, rows: np.ndarray) -> list[Any]:
    classes = task.data.preprocess["classes"]
    targets: list[Any] = task.data.targets[rows].tolist()
    if classes is None:
        return targets
    return [f"{classes[number]} (class {number})" for number in targets]
