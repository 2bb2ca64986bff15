"""A look at a training that does not start: what the model will see, and how large it all is.

Runs in a one-shot child (ml.run, verb `look`), on the CPU.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ml.config import GradientConfig, TrainingConfig
from ml.data import DataError
from ml.train.errors import TrainingFailed
from ml.train.recipes import make_task
from ml.train.show import show_samples
from ml.train.task import Task

MOST_MEASURED = 8  # samples in the batch whose activations are counted


def look(config: TrainingConfig, samples: int) -> dict[str, Any]:
    """Open data and model; {description, warnings, samples, parameters, …}. Raises DataError."""
    if not isinstance(config, GradientConfig):
        raise DataError(f"There is nothing to look at before recipe {config.recipe} has learned.")
    with tempfile.TemporaryDirectory(prefix="look-") as scratch:
        return _look(config, samples, Path(scratch))


def _look(config: GradientConfig, samples: int, scratch: Path) -> dict[str, Any]:
    warnings: list[str] = []
    torch.manual_seed(config.seed)
    try:
        task = make_task(config, scratch, torch.device("cpu"), warnings.append)
    except TrainingFailed as failure:
        raise DataError(failure.message, code=failure.code) from failure
    parameters = list(task.module.parameters())
    spread = np.linspace(0, len(task.train_rows) - 1, min(samples, len(task.train_rows)), dtype=int)
    return {
        "description": task.describe(),
        "warnings": warnings,
        "samples": show_samples(task, task.train_rows[spread]),
        "training_samples": len(task.train_rows),
        "validation_samples": len(task.validation_rows),
        "parameters": sum(each.numel() for each in parameters),
        "trainable_parameters": sum(each.numel() for each in parameters if each.requires_grad),
        "activation_bytes_per_sample": measure_activations(task, _largest(task)),
    }


def _largest(task: Task) -> np.ndarray:
    """The rows that take the most: of texts the longest, while images and tables are all alike."""
    inputs: Any = getattr(task, "inputs", None)
    if inputs is None:
        return task.train_rows[:MOST_MEASURED]
    lengths = inputs.lengths[task.train_rows]
    return task.train_rows[np.argsort(lengths)[-MOST_MEASURED:]]


def measure_activations(task: Task, rows: np.ndarray) -> float:
    """Bytes that the forward pass keeps for the backward pass, for each of the rows.

    Counted by autograd itself as it saves them; weights are no activations.
    """
    known = {each.untyped_storage().data_ptr() for each in task.module.parameters()}
    kept = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            known.add(storage.data_ptr())
            kept += storage.nbytes()
        return tensor

    task.module.train()
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss, _ = task.loss(task.batch(rows))
    del loss
    return kept / len(rows)
