"""Reads the history for a chart: the finest buckets that fit into the range asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from mlserver.lib.errors import FieldError, Invalid
from monitoring.history import (
    GPU_METRICS,
    HOST_METRICS,
    LADDER,
    RAW_KEPT,
    Gathered,
    Point,
    read_points,
)
from monitoring.models import HostSample

RANGES = {
    "5m": timedelta(minutes=5),
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "1y": timedelta(days=365),
}
DEFAULT_METRICS = ("cpu_percent", "memory_percent")
MOST_POINTS = 1500
MOST_METRICS = 64
RAW_GAP_SECONDS = 3  # the sampler may be late by one look
GPU = "gpu."


@dataclass(frozen=True)
class Name:
    """A metric as it is asked for: `cpu_percent`, or `gpu.<uuid>.busy_percent`."""

    text: str
    device: str
    metric: str


@dataclass(frozen=True)
class Scale:
    """Which source is read, and how wide what is answered is (1: as it was read)."""

    source: int
    width: int


def read_history(
    names: Iterable[str],
    start: datetime,
    end: datetime | None = None,
    *,
    host: str = "",
) -> dict[str, Any]:
    """{bucket_seconds, series: {name: {timestamps, mean, min, max}}}.

    `timestamps` are Unix seconds, the begin of each bucket, the same list for every name.
    A reading that is not there is null; so is one point in the middle of each gap.
    """
    wanted = [parse_name(name) for name in names]
    end = end or timezone.now()
    scale = choose_scale(start, end)
    devices = {name.device for name in wanted}
    points = read_points(
        host or default_host(), scale.source, start.timestamp(), end.timestamp(), devices
    )
    table = _gather(points, scale.width)
    times = _with_gaps(sorted(table), scale.width)
    return {
        "bucket_seconds": scale.width,
        "series": {name.text: _series(name, times, table) for name in wanted},
    }


def parse_name(text: str) -> Name:
    """Raises Invalid with the names that there are."""
    if text in HOST_METRICS:
        return Name(text, "", text)
    # From the right: AMD's UUID may be a place on the bus, which has a dot.
    device, _, metric = text.removeprefix(GPU).rpartition(".")
    if text.startswith(GPU) and device and metric in GPU_METRICS:
        return Name(text, device, metric)
    known = f"{', '.join(HOST_METRICS)}; gpu.<uuid>.<one of {', '.join(GPU_METRICS)}>"
    message = f"unknown metric {text[:100]!r}; known are {known}"
    raise Invalid(message, errors=[FieldError(field="metrics", message=message, value=text)])


def choose_scale(start: datetime, end: datetime) -> Scale:
    span = (end - start).total_seconds()
    age = timezone.now() - start
    slack = timedelta(seconds=30)  # the clock went on since the range was made
    if span <= RAW_KEPT.total_seconds() and age <= RAW_KEPT + slack:
        return Scale(0, 1)
    for rung in LADDER:
        if age <= rung.kept + slack and span / rung.width <= MOST_POINTS:
            return Scale(rung.width, rung.width)
    widest = LADDER[-1].width
    return Scale(widest, widest * max(1, -(-int(span) // (widest * MOST_POINTS))))


def default_host() -> str:
    """The machine that was read last; the only one, mostly."""
    newest = HostSample.objects.order_by("-id").values_list("host", flat=True).first()
    return newest or ""


def _gather(points: Iterable[Point], width: int) -> dict[float, dict[str, Gathered]]:
    table: dict[float, dict[str, Gathered]] = {}
    for point in points:
        time = round(point.time, 2) if width == 1 else point.time // width * width
        table.setdefault(time, {}).setdefault(point.device, Gathered()).add(point)
    return table


def _with_gaps(times: list[float], width: int) -> list[float]:
    longest = RAW_GAP_SECONDS if width == 1 else 1.5 * width
    filled: list[float] = []
    for time in times:
        if filled and time - filled[-1] > longest:
            filled.append(filled[-1] + width)
        filled.append(time)
    return filled


def _series(
    name: Name, times: list[float], table: dict[float, dict[str, Gathered]]
) -> dict[str, Any]:
    found = [_value(table.get(time, {}).get(name.device), name.metric) for time in times]
    return {
        "timestamps": times,
        "mean": [one and round(one[1], 3) for one in found],
        "min": [one and one[0] for one in found],
        "max": [one and one[2] for one in found],
    }


def _value(bucket: Gathered | None, metric: str) -> list[float] | None:
    return None if bucket is None else bucket.values.get(metric)
