"""What a version reached, beside the version before it."""

import math
from dataclasses import dataclass
from typing import Any

from models_registry.models import ModelVersion

HIGHER_IS_BETTER = ("accuracy", "f1", "precision", "recall", "r2", "auc")
LOWER_IS_BETTER = ("loss", "error", "mae", "mse", "rmse", "perplexity", "bits_per_byte")


@dataclass(frozen=True, kw_only=True)
class Metric:
    name: str
    value: float
    previous: float | None

    @property
    def change(self) -> float | None:
        return None if self.previous is None else self.value - self.previous

    @property
    def verdict(self) -> str:
        """`better` or `worse` than before; empty where that cannot be said."""
        if not self.change:
            return ""
        words = self.name.lower()
        if any(word in words for word in HIGHER_IS_BETTER):
            return "better" if self.change > 0 else "worse"
        if any(word in words for word in LOWER_IS_BETTER):
            return "better" if self.change < 0 else "worse"
        return ""


def compare_metrics(version: ModelVersion, previous: ModelVersion | None) -> list[Metric]:
    before = _numbers(previous.metrics) if previous is not None else {}
    return [
        Metric(name=name, value=value, previous=before.get(name))
        for name, value in _numbers(version.metrics).items()
    ]


def _numbers(metrics: dict[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
