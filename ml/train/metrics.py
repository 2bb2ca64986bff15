"""How good the outputs of a network are, in numpy: accuracy, macro F1, confusion, mae, rmse, r2."""

from __future__ import annotations

from typing import Any

import numpy as np

MOST_CLASSES_SHOWN = 50


def confusion_matrix(truth: np.ndarray, guess: np.ndarray, class_count: int) -> np.ndarray:
    """Counts, (true class, guessed class)."""
    cells = np.bincount(truth * class_count + guess, minlength=class_count**2)
    return cells.reshape(class_count, class_count)


def confusion_events(confusion: np.ndarray, classes: list[Any]) -> list[tuple[str, dict[str, Any]]]:
    """The matrix as a line of the journal; none where nobody could read it."""
    if len(classes) > MOST_CLASSES_SHOWN:
        return []
    return [("evaluated", {"confusion": confusion.tolist(), "classes": classes})]


def accuracy(confusion: np.ndarray) -> float:
    return float(np.trace(confusion) / confusion.sum())


def macro_f1(confusion: np.ndarray) -> float:
    """Mean F1 of the classes that occur, be it as truth or as guess: 2·tp / (2·tp + fp + fn)."""
    hits = np.diag(confusion)
    occurrences = confusion.sum(axis=0) + confusion.sum(axis=1)
    known = occurrences > 0
    return float(np.mean(2 * hits[known] / occurrences[known]))


def regression_metrics(truth: np.ndarray, guess: np.ndarray) -> dict[str, float | None]:
    """mae, rmse and r2 in the units of the target; r2 is None where the truth never varies."""
    errors = guess - truth
    spread = float(((truth - truth.mean()) ** 2).sum())
    return {
        "mae": float(np.abs(errors).mean()),
        "rmse": float(np.sqrt((errors**2).mean())),
        "r2": 1 - float((errors**2).sum()) / spread if spread > 0 else None,
    }
