"""Rows of monitoring for tests; by default those of a machine that is well."""

from typing import Any

from django.utils import timezone

from monitoring.models import ClusterHeartbeat, GpuSample, HostSample

GIB = 1 << 30


def host_sample(**values: Any) -> HostSample:
    return HostSample.objects.create(
        **{
            "host": "box",
            "cpu_percent": 12.5,
            "cpu_per_core": [5.0, 20.0],
            "load_1m": 0.5,
            "memory_total_bytes": 16 * GIB,
            "memory_used_bytes": 4 * GIB,
            "memory_available_bytes": 12 * GIB,
            "disk_total_bytes": 100 * GIB,
            "disk_free_bytes": 60 * GIB,
            "reasons": {"gpus": "No NVIDIA driver found – running on CPU."},
            **values,
        }
    )


def gpu_sample(sample: HostSample, **values: Any) -> GpuSample:
    return GpuSample.objects.create(
        **{
            "host_sample": sample,
            "index": 0,
            "uuid": "GPU-1234",
            "name": "NVIDIA H100",
            "driver": "580.65",
            "cuda_version": "12.4",
            "busy_percent": 37.0,
            "memory_total_bytes": 80_000_000_000,
            "memory_used_bytes": 3_000_000_000,
            **values,
        }
    )


def heartbeats(**values: Any) -> None:
    for cluster in ("default", "gpu"):
        ClusterHeartbeat.objects.update_or_create(
            cluster=cluster, defaults={"seen_at": timezone.now(), **values}
        )
