"""What a recipe adds to the loop: data, network, loss, evaluation, export."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from ml.train.checkpoint import Tensors
from ml.train.steps import DTYPES

Check = Callable[[], None]
"""Called between batches of an evaluation, and between parts of the data before the first step;
raises Cancelled when nobody waits for it any more."""


def no_check() -> None:
    """Nobody can ask for anything."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What an epoch's end says; None is what this task does not measure."""

    val_loss: float | None = None
    val_accuracy: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Further lines of the journal (type and fields), such as a confusion matrix."""


class Task(ABC):
    """One recipe on one dataset. The loop calls it; it knows nothing of steps or checkpoints."""

    has_accuracy: bool = True
    counts_tokens: ClassVar[bool] = False
    """Whether weights are tokens: then the loop tells how many of them pass in a second."""

    module: nn.Module
    """On its device; what requires no gradient is neither trained nor saved."""
    train_rows: np.ndarray
    validation_rows: np.ndarray
    threads: int
    device: torch.device
    precision: str

    @abstractmethod
    def describe(self) -> list[str]:
        """Sentences for the log: what is learned from what."""

    @abstractmethod
    def weight(self, rows: np.ndarray) -> int:
        """How many things the mean loss of these rows is a mean of: samples, or tokens."""

    @abstractmethod
    def batch(self, rows: np.ndarray) -> Any:
        """The rows as tensors on the device."""

    @abstractmethod
    def loss(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean loss of a batch (a scalar with gradient), and how many guesses were right."""

    def evaluation_batch(self, batch_size: int) -> int:
        """Samples that an evaluation takes at once, where a step takes so many."""
        return batch_size

    @abstractmethod
    def evaluate(self, batch_size: int, check: Check) -> Evaluation:
        """Measure the validation rows; draws no random numbers."""

    @abstractmethod
    def export(self, folder: Path, weights: Tensors) -> None:
        """Write the finished model with these weights into a new, empty folder."""

    def save_memory(self) -> bool:
        """Use less memory for a batch, with the same result; False when there is no way left."""
        return False

    def autocast(self) -> AbstractContextManager[Any]:
        dtype = DTYPES[self.precision]
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32)


def split(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
