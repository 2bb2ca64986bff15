"""What the rules of alerts look at: one value per device, its words, and who causes it.

Reads one sample and the table of processes; a value that is not known is None, which
neither opens nor closes an alert.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.db.models import Sum

from datasets.models import DatasetVersion
from jobs.models import Job
from models_registry.models import ModelVersion
from monitoring.models import AlertRule, GpuSample, HardwareEvent, HostSample, ProcessTable
from sessions.models import TrainingSession

Metric = AlertRule.Metric

XID_WINDOW = timedelta(minutes=10)
TABLE_FRESH = timedelta(seconds=60)
MOST_CULPRITS = 3
GIB = 2**30
WARNING_LIMITS = frozenset({"hw_slowdown", "hw_thermal", "hw_power_brake"})
UNITS: dict[str, str] = {
    Metric.GPU_TEMPERATURE: " °C",
    Metric.SILENCE: " s",
    Metric.GPU_ECC: "",
    Metric.GPU_XID: "",
    Metric.GPU_SLOWDOWN: "",
    Metric.GPU_LOST: "",
}
YES_OR_NO = frozenset({Metric.GPU_SLOWDOWN, Metric.GPU_LOST})
"""Metrics that are 1 or 0: their name says all."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    subject: str
    label: str
    value: float | None


class Look:
    """One sample, and what has to be asked for beside it: only when a rule needs it, once."""

    def __init__(self, sample: HostSample, now: datetime) -> None:
        self.sample = sample
        self.now = now

    @cached_property
    def gpus(self) -> list[GpuSample]:
        return list(self.sample.gpus.all())

    @cached_property
    def processes(self) -> list[dict[str, Any]]:
        """What ran a moment ago on this host; nothing where that is not known."""
        fresh = ProcessTable.objects.filter(
            host=self.sample.host, timestamp__gte=self.now - TABLE_FRESH
        ).first()
        return fresh.processes if fresh else []

    @cached_property
    def running(self) -> list[TrainingSession]:
        rows = TrainingSession.objects.select_related("job__owner")
        return list(rows.filter(job__in=Job.objects.filter(host=self.sample.host).running()))

    @cached_property
    def xids(self) -> list[str]:
        """The GPU of each XID of the last minutes."""
        events = HardwareEvent.objects.filter(
            host=self.sample.host, kind="xid", timestamp__gte=self.now - XID_WINDOW
        )
        return list(events.values_list("uuid", flat=True))

    def sessions_on(self, gpu: GpuSample) -> list[TrainingSession]:
        """Who holds a GPU: by its processes, else by where the session was placed."""
        if not self.running:
            return []
        seen = {one["session"] for one in self.processes if one["gpu_uuid"] == gpu.uuid}
        found = [row for row in self.running if row.pk in seen]
        if found:
            return found
        return [row for row in self.running if row.summary.get("gpu") == str(gpu.index)]


def read(metric: str, look: Look) -> Iterator[Reading]:
    """The host's value, or one of each GPU."""
    if metric in HOST:
        yield Reading(subject="", label=look.sample.host, value=HOST[metric](look.sample))
    elif metric in GPU:
        for gpu in look.gpus:
            label = f"{'MIG instance of ' if gpu.parent_uuid else ''}GPU {gpu.index} ({gpu.name})"
            yield Reading(subject=gpu.uuid, label=label, value=GPU[metric](gpu, look))


def describe(rule: AlertRule, reading: Reading, look: Look) -> str:
    """One sentence for a person, with the names of those who cause it."""
    metric = Metric(rule.metric)
    sentence = f"{reading.label}: {metric.label}"
    if metric not in YES_OR_NO:
        sentence += f" {reading.value:.4g}{unit_of(metric)}, {condition(rule)}"
    culprits = find_culprits(metric, reading, look)
    return f"{sentence}. {'; '.join(culprits)}." if culprits else f"{sentence}."


def unit_of(metric: str) -> str:
    return UNITS.get(metric, " %")


def condition(rule: AlertRule) -> str:
    """When it opens, in words."""
    if rule.metric in YES_OR_NO:
        return f"it is so{_how_long(rule.for_seconds)}"
    comparison = AlertRule.Comparison(rule.comparison).label
    return f"{comparison} {rule.threshold:g}{unit_of(rule.metric)}{_how_long(rule.for_seconds)}"


def _how_long(seconds: int) -> str:
    if not seconds:
        return ""
    return f" for {seconds // 60} min" if seconds % 60 == 0 else f" for {seconds} s"


# --- Values ---------------------------------------------------------------------------------


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else 100 * part / whole


def _disk(sample: HostSample) -> float | None:
    if sample.disk_total_bytes is None or sample.disk_free_bytes is None:
        return None
    return _share(sample.disk_total_bytes - sample.disk_free_bytes, sample.disk_total_bytes)


def _held_busy(gpu: GpuSample, look: Look) -> float | None:
    """Idle is a matter only for a GPU that somebody holds."""
    return gpu.busy_percent if look.sessions_on(gpu) else 100.0


def _is_lost(gpu: GpuSample) -> bool:
    return "gpu" in gpu.reasons


def _slowdown(gpu: GpuSample, look: Look) -> float | None:
    if _is_lost(gpu) or "limits" in gpu.reasons:
        return None
    return float(bool(WARNING_LIMITS.intersection(gpu.limits)))


HOST: dict[str, Callable[[HostSample], float | None]] = {
    Metric.CPU: lambda sample: sample.cpu_percent,
    Metric.MEMORY: lambda sample: _share(sample.memory_used_bytes, sample.memory_total_bytes),
    Metric.MEMORY_PRESSURE: lambda sample: sample.pressure_memory_percent,
    Metric.DISK: _disk,
    Metric.SILENCE: lambda sample: 0.0,  # a sample is here: the sampler speaks
}
GPU: dict[str, Callable[[GpuSample, Look], float | None]] = {
    Metric.GPU_TEMPERATURE: lambda gpu, look: gpu.temperature_celsius,
    Metric.GPU_MEMORY: lambda gpu, look: _share(gpu.memory_used_bytes, gpu.memory_total_bytes),
    Metric.GPU_HELD_BUSY: _held_busy,
    Metric.GPU_POWER: lambda gpu, look: _share(gpu.power_watts, gpu.power_limit_watts),
    Metric.GPU_SLOWDOWN: _slowdown,
    Metric.GPU_ECC: lambda gpu, look: gpu.details.get("ecc_uncorrected"),
    Metric.GPU_XID: lambda gpu, look: float(look.xids.count(gpu.uuid)),
    Metric.GPU_LOST: lambda gpu, look: float(_is_lost(gpu)),
}


# --- Culprits ---------------------------------------------------------------------------------


def find_culprits(metric: str, reading: Reading, look: Look) -> list[str]:
    """The few that use most of what is short; empty where nobody is known."""
    if metric == Metric.DISK:
        return _what_fills_the_disk()
    if metric in GPU:
        return _largest(look, "gpu_memory_bytes", "{:.1f} GiB VRAM", GIB, reading.subject)
    if metric in (Metric.MEMORY, Metric.MEMORY_PRESSURE):
        return _largest(look, "memory_bytes", "{:.1f} GiB", GIB)
    if metric == Metric.CPU:
        return _largest(look, "cpu_percent", "{:.0f} % of a core", 1)
    return []


def _largest(look: Look, key: str, words: str, scale: float, gpu: str = "") -> list[str]:
    """Largest first; a GPU's users also where it is not known how much they use."""
    users = [one for one in look.processes if not gpu or one["gpu_uuid"] == gpu]
    users = [one for one in users if one.get(key) or gpu]
    users.sort(key=lambda one: one.get(key) or 0, reverse=True)
    return [
        _name(one) + (f" uses {words.format(one[key] / scale)}" if one.get(key) else " uses it")
        for one in users[:MOST_CULPRITS]
    ]


def _name(process: dict[str, Any]) -> str:
    if process.get("session"):
        return f"{process['session']} of {process.get('owner') or 'nobody'}"
    command = str(process.get("command") or "a process")[:60]
    return f"{command} (PID {process['pid']}, {process.get('user') or 'user unknown'})"


def _what_fills_the_disk() -> list[str]:
    datasets = DatasetVersion.objects.aggregate(size=Sum("size_bytes"))["size"] or 0
    models = ModelVersion.objects.aggregate(size=Sum("size_bytes"))["size"] or 0
    return [f"Datasets take {datasets / GIB:.1f} GiB, models {models / GIB:.1f} GiB"]
