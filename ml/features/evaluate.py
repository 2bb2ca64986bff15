"""How good the exported graph itself is, by the answers it gives to held-back rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ml.features.learn import Fitted
from ml.features.model import encode, open_graph
from ml.train import metrics

PART = 1_000
"""Rows answered at once."""


@dataclass(frozen=True)
class Figures:
    """How good the answers to some rows are."""

    of: str
    rows: int
    values: dict[str, float | None]
    """accuracy and macro_f1, or mae, rmse and r2."""
    loss: float
    """Cross entropy, or the mean squared error."""
    baseline: float | None
    """Accuracy of always giving the most frequent class of these rows; None for numbers."""
    confusion: np.ndarray | None
    """Counts, (true class, guessed class)."""


def answer(fitted: Fitted, columns: dict[str, np.ndarray]) -> np.ndarray:
    """Probabilities (rows, classes), or numbers (rows,), from the graph as it is exported."""
    session = open_graph(fitted.onnx)
    count = len(next(iter(columns.values())))
    parts = []
    for start in range(0, count, PART):
        part = {name: values[start : start + PART] for name, values in columns.items()}
        rows = [dict(zip(part, row, strict=True)) for row in zip(*part.values(), strict=True)]
        outputs = session.run(None, encode(fitted.preprocess, rows))
        parts.append(outputs[0].ravel() if fitted.preprocess["classes"] is None else outputs[1])
    return np.concatenate(parts).astype(np.float64)


def measure(of: str, answers: np.ndarray, targets: np.ndarray) -> Figures:
    """Figures for the answers of answer(); targets are class numbers or numbers (rows,)."""
    if answers.ndim == 1:
        return Figures(
            of=of,
            rows=len(targets),
            values=metrics.regression_metrics(targets, answers),
            loss=float(((answers - targets) ** 2).mean()),
            baseline=None,
            confusion=None,
        )
    confusion = metrics.confusion_matrix(targets, answers.argmax(axis=1), answers.shape[1])
    right = answers[np.arange(len(targets)), targets]
    return Figures(
        of=of,
        rows=len(targets),
        values={"accuracy": metrics.accuracy(confusion), "macro_f1": metrics.macro_f1(confusion)},
        loss=float(-np.log(np.clip(right, 1e-12, 1)).mean()),
        baseline=float(confusion.sum(axis=1).max() / len(targets)),
        confusion=confusion,
    )


def measure_sources(
    answers: np.ndarray, targets: np.ndarray, sources: np.ndarray | None
) -> list[Figures]:
    """Figures for all rows, then for those of each source."""
    names: list[Any] = [] if sources is None else np.unique(sources).tolist()
    found = [measure("all", answers, targets)]
    for name in names:
        rows = sources == name
        found.append(measure(str(name), answers[rows], targets[rows]))
    return found
