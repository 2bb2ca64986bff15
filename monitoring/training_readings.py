"""The readings of a time span as a session shows them; `sessions` calls this by its name."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from monitoring.models import GpuSample
from monitoring.series import read_history

HOST = ("cpu_percent", "memory_percent")
GPU = ("busy_percent", "memory_percent")


def read_readings(start: datetime, end: datetime, gpu_index: int | None) -> dict[str, Any]:
    """{bucket_seconds, timestamps, series: {name: [mean or null]}}; see sessions.hardware."""
    names = {name: name for name in HOST}
    uuid = _find_uuid(gpu_index)
    if uuid:
        names |= {f"gpu_{name}": f"gpu.{uuid}.{name}" for name in GPU}
    found = read_history(names.values(), start, end)
    series = {name: found["series"][full] for name, full in names.items()}
    return {
        "bucket_seconds": found["bucket_seconds"],
        "timestamps": series[HOST[0]]["timestamps"],
        "series": {name: one["mean"] for name, one in series.items()},
    }


def _find_uuid(index: int | None) -> str | None:
    if index is None:
        return None
    newest = GpuSample.objects.filter(index=index).order_by("-id")
    return newest.values_list("uuid", flat=True).first()
