"""Where a training will compute, and what is free there now."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from ml.hardware import GpuReader, GpuReading, HostReader, Tier


@dataclass(frozen=True, kw_only=True)
class Device:
    kind: str
    """cpu or cuda."""
    name: str
    free_bytes: int | None
    total_bytes: int | None
    is_missing: bool = False
    """It was asked for by name, and is not there."""
    reason: str | None = None
    """Why a number is not there."""


def find_device(wanted: str) -> Device:
    """For `device` of a configuration: auto, cpu, cuda or cuda:N.

    `auto` is the GPU with the most free memory, as ml.train would take the first it is shown.
    """
    if wanted == "cpu":
        return _host()
    reader = GpuReader()
    try:
        gpus, why_none = reader.read(Tier.FAST)
    finally:
        reader.close()
    if wanted.partition(":")[2]:
        gpus = [gpu for gpu in gpus if gpu.index == int(wanted.partition(":")[2])]
        why_none = f"This machine has no GPU {wanted.partition(':')[2]}."
    if gpus:
        return _gpu(max(gpus, key=lambda gpu: _free(gpu) or 0))
    if wanted == "auto":
        return _host()
    return Device(
        kind="cuda", name="", free_bytes=None, total_bytes=None, is_missing=True, reason=why_none
    )


def _gpu(gpu: GpuReading) -> Device:
    return Device(
        kind="cuda",
        name=gpu.name,
        free_bytes=_free(gpu),
        total_bytes=gpu.memory_total_bytes,
        reason=gpu.reasons.get("memory_used_bytes"),
    )


def _free(gpu: GpuReading) -> int | None:
    if gpu.memory_total_bytes is None or gpu.memory_used_bytes is None:
        return None
    return gpu.memory_total_bytes - gpu.memory_used_bytes - (gpu.memory_reserved_bytes or 0)


def _host() -> Device:
    reading = HostReader(settings.RUNS_DIR).read()
    return Device(
        kind="cpu",
        name="CPU",
        free_bytes=reading.memory_available_bytes,
        total_bytes=reading.memory_total_bytes,
        reason=reading.reasons.get("memory_available_bytes"),
    )
