"""What the machine is doing now, as one document: for the API, the stream and the pages."""

from __future__ import annotations

import socket
from datetime import timedelta
from typing import Any

from django.utils import timezone

from ml.hardware.readings import LIMITS
from monitoring.models import ClusterHeartbeat, GpuSample, HostSample, ProcessTable

STALE = timedelta(seconds=10)
CLUSTERS = ("default", "gpu")
PROCESSES_STALE = timedelta(seconds=30)
GPU_FIELDS = (
    "index",
    "uuid",
    "parent_uuid",
    "name",
    "vendor",
    "driver",
    "cuda_version",
    "busy_percent",
    "memory_total_bytes",
    "memory_used_bytes",
    "memory_reserved_bytes",
    "memory_active_percent",
    "temperature_celsius",
    "temperature_limit_celsius",
    "power_watts",
    "power_limit_watts",
    "clock_sm_mhz",
    "clock_memory_mhz",
    "fan_percent",
    "pcie_received_bytes_per_second",
    "pcie_sent_bytes_per_second",
    "sm_active_percent",
    "sm_occupancy_percent",
    "tensor_active_percent",
    "energy_joules",
    "details",
    "reasons",
)
NEVER = "The sampler has not run yet; 'manage.py serve' or 'manage.py run_sampler' starts it."


def record_heartbeat(cluster: str) -> None:
    ClusterHeartbeat.objects.update_or_create(
        cluster=cluster, defaults={"host": socket.gethostname(), "seen_at": timezone.now()}
    )


def latest_sample() -> HostSample | None:
    return HostSample.objects.order_by("-id").prefetch_related("gpus").first()


def is_stale(sample: HostSample) -> bool:
    """An old reading is no reading: the sampler is silent."""
    return timezone.now() - sample.timestamp > STALE


def describe_now() -> dict[str, Any]:
    """The newest readings. Old ones are not shown as if they were true: then all is null."""
    sample = latest_sample()
    if sample is None:
        return _describe_silence(HostSample(host=socket.gethostname()), None, NEVER)
    age = timezone.now() - sample.timestamp
    if is_stale(sample):
        seconds = round(age.total_seconds())
        silence = HostSample(host=sample.host, timestamp=sample.timestamp)
        return _describe_silence(silence, seconds, f"The sampler is silent since {seconds} s.")
    return {
        **describe_sample(sample),
        "age_seconds": round(age.total_seconds(), 1),
        "is_stale": False,
    }


def describe_sample(sample: HostSample) -> dict[str, Any]:
    """What the event `sample` carries, and the body of GET /api/v1/system/info."""
    return {
        **_describe_host(sample),
        "gpus": [_describe_gpu(gpu) for gpu in sample.gpus.all()],
        "gpu_reason": sample.reasons.get("gpus"),
        "reasons": {key: why for key, why in sample.reasons.items() if key != "gpus"},
    }


def _describe_silence(empty: HostSample, age: int | None, reason: str) -> dict[str, Any]:
    return {
        **_describe_host(empty),
        "timestamp": None if age is None else empty.timestamp,
        "gpus": [],
        "gpu_reason": reason,
        "reasons": {"sampler": reason},
        "age_seconds": age,
        "is_stale": True,
    }


def _describe_host(sample: HostSample) -> dict[str, Any]:
    return {
        "host": sample.host,
        "timestamp": sample.timestamp,
        "cpu": {
            "percent": sample.cpu_percent,
            "per_core": sample.cpu_per_core,
            "count": len(sample.cpu_per_core) or None,
            "load_1m": sample.load_1m,
            "load_5m": sample.load_5m,
            "load_15m": sample.load_15m,
        },
        "pressure": {
            "cpu_percent": sample.pressure_cpu_percent,
            "memory_percent": sample.pressure_memory_percent,
            "io_percent": sample.pressure_io_percent,
        },
        "memory": {
            "total_bytes": sample.memory_total_bytes,
            "used_bytes": sample.memory_used_bytes,
            "available_bytes": sample.memory_available_bytes,
            "percent": memory_percent(sample),
            "swap_used_bytes": sample.swap_used_bytes,
            "swap_total_bytes": sample.swap_total_bytes,
        },
        "disk": {
            "total_bytes": sample.disk_total_bytes,
            "free_bytes": sample.disk_free_bytes,
            "percent": disk_percent(sample),
            "read_bytes_per_second": sample.disk_read_bytes_per_second,
            "write_bytes_per_second": sample.disk_write_bytes_per_second,
        },
        "network": {
            "received_bytes_per_second": sample.network_received_bytes_per_second,
            "sent_bytes_per_second": sample.network_sent_bytes_per_second,
        },
    }


def _describe_gpu(gpu: GpuSample) -> dict[str, Any]:
    return {
        **{name: getattr(gpu, name) for name in GPU_FIELDS},
        "limits": describe_limits(gpu.limits),
    }


def describe_limits(words: list[str]) -> list[dict[str, str]]:
    """Why the clock is not higher, in words; `level` is note or warning."""
    return [
        {"code": word, "text": LIMITS[word].text, "level": LIMITS[word].level}
        for word in words
        if word in LIMITS
    ]


def latest_processes() -> ProcessTable | None:
    return ProcessTable.objects.order_by("-timestamp").first()


def describe_processes(table: ProcessTable | None) -> dict[str, Any]:
    """What the event `procs` carries, and the body of GET /api/v1/system/processes."""
    if table is None:
        return {"timestamp": None, "results": [], "reasons": {"sampler": NEVER}}
    age = timezone.now() - table.timestamp
    if age > PROCESSES_STALE:
        reason = f"The sampler is silent since {round(age.total_seconds())} s."
        return {"timestamp": table.timestamp, "results": [], "reasons": {"sampler": reason}}
    return {"timestamp": table.timestamp, "results": table.processes, "reasons": table.reasons}


def memory_percent(sample: HostSample) -> float | None:
    if not sample.memory_total_bytes or sample.memory_used_bytes is None:
        return None
    return round(100 * sample.memory_used_bytes / sample.memory_total_bytes, 1)


def disk_percent(sample: HostSample) -> float | None:
    if not sample.disk_total_bytes or sample.disk_free_bytes is None:
        return None
    return round(100 * (1 - sample.disk_free_bytes / sample.disk_total_bytes), 1)
