"""What the machine did while a session trained: readings of its time, by its GPU."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.module_loading import import_string

from sessions.models import TrainingSession


def read_hardware(session: TrainingSession) -> dict[str, Any]:
    """{bucket_seconds, timestamps, series: {name: [value or null]}, reason}.

    Names are cpu_percent and memory_percent, and of the GPU it trained on gpu_busy_percent
    and gpu_memory_percent. Without readings the lists are empty and `reason` says why.
    """
    job = session.job
    if job.started_at is None:
        return _nothing("It has not started yet.")
    read: Callable[[datetime, datetime, int | None], dict[str, Any]]
    read = import_string(settings.HARDWARE_HISTORY)  # younger than this app, so by its name
    found = read(job.started_at, job.finished_at or timezone.now(), gpu_index(session))
    if not found["timestamps"]:
        return _nothing("The sampler took no reading while it ran, or they are too old to be kept.")
    return {**found, "reason": None}


def gpu_index(session: TrainingSession) -> int | None:
    """Which GPU of the machine it trains on; None for the CPU, and before it has said so."""
    device = session.summary.get("environment", {}).get("device", "")
    if not device.startswith("cuda"):
        return None
    placed = session.summary.get("gpu") or device.partition(":")[2] or "0"
    return int(placed) if placed.isdecimal() else None  # a UUID was given from outside


def _nothing(reason: str) -> dict[str, Any]:
    return {"bucket_seconds": None, "timestamps": [], "series": {}, "reason": reason}
