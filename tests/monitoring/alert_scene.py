"""Samples, rules and what they bring about: the scene of the tests of alerts."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from monitoring import alerts
from monitoring.models import Alert, AlertRule, HostSample, ProcessTable
from tests.monitoring.rows import gpu_sample, host_sample

START = datetime.fromisoformat("2026-01-06T10:00:00+00:00")
Metric = AlertRule.Metric


def rule(metric: str = Metric.GPU_TEMPERATURE, **values: Any) -> AlertRule:
    defaults = {"name": "hot", "threshold": 85, "clear_threshold": 82, "for_seconds": 60}
    return AlertRule.objects.create(metric=metric, **{**defaults, **values})


def sample(seconds: float, gpu: dict[str, Any] | None = None, **host: Any) -> HostSample:
    row = host_sample(timestamp=START + timedelta(seconds=seconds), **host)
    if gpu is not None:
        gpu_sample(row, **gpu)
    return row


def hot(seconds: float, celsius: float | None) -> list[Alert]:
    row = sample(seconds, {"temperature_celsius": celsius})
    return alerts.evaluate(row.timestamp, row)


def run(values: list[float | None], step: float = 5, start: float = 0) -> list[tuple[float, str]]:
    """What opened and closed when, at one value every few seconds."""
    told = []
    for place, value in enumerate(values):
        seconds = start + place * step
        told += [(seconds, alert.state) for alert in hot(seconds, value)]
    return told


def processes(*rows: dict[str, Any]) -> None:
    empty = {"session": None, "owner": None, "gpu_uuid": None, "user": "ana", "command": "python"}
    ProcessTable.objects.create(
        host="box", timestamp=START, processes=[{**empty, "pid": 7, **row} for row in rows]
    )
