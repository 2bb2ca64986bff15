"""What differs between sessions: their configurations, and what they reached."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sessions.models import TrainingSession

GIVEN = ("session",)  # by the server; it differs always


@dataclass(frozen=True)
class Difference:
    """A field that is not the same everywhere; None where a configuration has no such field."""

    name: str
    values: list[Any]


def find_differences(configs: list[Mapping[str, Any]]) -> list[Difference]:
    """The fields in which these configurations differ, in the order in which they are declared."""
    names = dict.fromkeys(name for config in configs for name in config if name not in GIVEN)
    rows = (Difference(name, [config.get(name) for config in configs]) for name in names)
    return [row for row in rows if any(value != row.values[0] for value in row.values)]


METRICS: tuple[tuple[str, str, Callable[[Iterable[float]], float]], ...] = (
    ("loss", "Loss", min),
    ("val_loss", "Validation loss", min),
    ("accuracy", "Accuracy", max),
    ("val_accuracy", "Validation accuracy", max),
)


@dataclass(frozen=True)
class MetricRow:
    """The best value of each session, whichever epoch it was in."""

    key: str
    label: str
    values: list[float | None]
    best: float
    """Of all; lower is better for a loss, higher for an accuracy."""

    @property
    def cells(self) -> list[tuple[float | None, bool]]:
        """Each value, and whether it is the best."""
        return [(value, value == self.best) for value in self.values]


def compare_metrics(sessions: list[TrainingSession]) -> list[MetricRow]:
    """Only metrics that at least one of them has."""
    rows = []
    for key, label, choose in METRICS:
        values = [_best(session, key, choose) for session in sessions]
        known = [value for value in values if value is not None]
        if known:
            rows.append(MetricRow(key, label, values, choose(known)))
    return rows


def _best(
    session: TrainingSession, key: str, choose: Callable[[Iterable[float]], float]
) -> float | None:
    values = [getattr(row, key) for row in session.epoch_metrics.all()]
    known = [value for value in values if value is not None]
    return choose(known) if known else None
