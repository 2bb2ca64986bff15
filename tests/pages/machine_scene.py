"""A machine with two GPUs, somebody on each, a quarter of an hour of readings, and alerts."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from jobs.models import State
from monitoring.models import (
    Alert,
    AlertRule,
    ClusterHeartbeat,
    GpuSample,
    GpuUse,
    HardwareEvent,
    HistoryBucket,
    HostSample,
    ProcessTable,
)
from sessions.models import TrainingSession
from tests import factories

GIB = 2**30
HOST = "gpubox-1"
FIRST, SECOND = "GPU-aaaa-1111", "GPU-bbbb-2222"


@transaction.atomic  # thousands of rows: one by one they take seconds, and a reading grows old
def machine(owner: User, *, minutes: int = 5) -> TrainingSession:
    """The session that holds the first GPU."""
    for cluster in ("default", "gpu"):
        ClusterHeartbeat.objects.update_or_create(cluster=cluster)
    session = factories.session(
        owner=owner, name="qwen-lora", state=State.RUNNING, host=HOST, summary={"gpu": "0"}
    )
    now = timezone.now()
    for seconds in range(minutes * 60, 0, -3):
        if not 100 < seconds < 130:  # the sampler was away: a gap is a gap
            read(now - timedelta(seconds=seconds))
    read(now)
    processes(session)
    history(now)
    use(now, session)
    HardwareEvent.objects.create(host=HOST, uuid=FIRST, kind="xid", code=79, message="Fell off.")
    return session


@transaction.atomic  # as the sampler does: the feed tells a reading once, with its GPUs
def read(now: datetime, **values: Any) -> HostSample:
    turn = now.timestamp() / 20
    sample = HostSample.objects.create(
        **{
            "host": HOST,
            "timestamp": now,
            "cpu_percent": 29 + 12 * math.sin(turn),
            "cpu_per_core": [abs(50 + 50 * math.sin(turn + core)) for core in range(32)],
            "load_1m": 7.25,
            "load_5m": 6.1,
            "load_15m": 4.9,
            "pressure_cpu_percent": 1.2,
            "pressure_memory_percent": 0.0,
            "pressure_io_percent": 0.4,
            "memory_total_bytes": 256 * GIB,
            "memory_used_bytes": int((90 + 3 * math.sin(turn / 3)) * GIB),
            "memory_available_bytes": 165 * GIB,
            "swap_total_bytes": 8 * GIB,
            "swap_used_bytes": 0,
            "disk_total_bytes": 2000 * GIB,
            "disk_free_bytes": 640 * GIB,
            "disk_read_bytes_per_second": 91e6 + 4e7 * math.sin(turn),
            "disk_write_bytes_per_second": 35e6,
            "network_received_bytes_per_second": 9.6e6,
            "network_sent_bytes_per_second": 2.6e6,
            "gpu_count": 2,
            **values,
        }
    )
    gpu(sample, 0, FIRST, busy=94 + 5 * math.sin(turn), used=61, watts=684, celsius=75)
    gpu(sample, 1, SECOND, busy=39 + 20 * math.sin(turn / 2), used=17.9, watts=319, celsius=66)
    return sample


def gpu(
    sample: HostSample,
    index: int,
    uuid: str,
    *,
    busy: float,
    used: float,
    watts: float,
    celsius: float,
) -> None:
    GpuSample.objects.create(
        host_sample=sample,
        index=index,
        uuid=uuid,
        name="NVIDIA H100 80GB HBM3",
        vendor="nvidia",
        driver="580.65.06",
        cuda_version="13.0",
        busy_percent=busy,
        memory_total_bytes=int(79.6 * GIB),
        memory_used_bytes=int(used * GIB),
        temperature_celsius=celsius,
        temperature_limit_celsius=87,
        power_watts=watts,
        power_limit_watts=700,
        clock_sm_mhz=1980,
        sm_active_percent=busy * 0.8,
        tensor_active_percent=busy * 0.4,
        limits=["sw_power_cap", "hw_thermal"] if index == 0 else [],
        details={
            "pcie_width": 16 if index == 0 else 8,
            "pcie_width_max": 16,
            "ecc_uncorrected": 0,
            "ecc_mode": True,
            "vbios": "96.00.89.00.01",
        },
        reasons={"fan_percent": "This GPU does not report it."},
    )


def processes(session: TrainingSession) -> None:
    rows = [
        (28017, "python -P -m ml.train", FIRST, 58.9, session.pk, "training"),
        (30021, "/usr/bin/jupyter kernel --a-rather-long-argument", FIRST, 1.8, None, "outside"),
        (30022, "/opt/render/blender", SECOND, 17.0, None, "outside"),
        (4001, "manage.py run_sampler", None, None, None, "server"),
    ]
    ProcessTable.objects.update_or_create(
        host=HOST,
        defaults={
            "timestamp": timezone.now(),
            "processes": [
                {
                    "pid": pid,
                    "user": "ana" if name else "mlsrv",
                    "command": command,
                    "kind": kind,
                    "session": name,
                    "owner": session.job.owner and session.job.owner.username if name else None,
                    "gpu_uuid": uuid,
                    "gpu_memory_bytes": int(size * GIB) if size else None,
                    "gpu_sm_percent": 91.0 if uuid else None,
                    "cpu_percent": 97.4,
                    "memory_bytes": 5 * GIB,
                    "started_at": "2026-01-06T10:30:00Z",
                }
                for pid, command, uuid, size, name, kind in rows
            ],
        },
    )


def use(now: datetime, session: TrainingSession) -> None:
    """Three days of who held the first GPU."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    for hours in range(70):
        for who, joules in ((session.pk if hours < 6 else "train_gone", 2.1e6), ("", 1.5e5)):
            GpuUse.objects.create(
                uuid=FIRST,
                hour=hour - timedelta(hours=hours),
                session=who,
                seconds=3480 if who else 120,
                joules=joules,
            )


def history(now: datetime) -> None:
    """An hour of buckets, with a hole in it."""
    start = int(now.timestamp()) // 10 * 10
    for step in range(1, 340):
        if 200 < step < 230:
            continue
        at = start - 10 * step
        wave = math.sin(at / 300)
        add(at, "", {"cpu_percent": 40 + 20 * wave, "memory_used_bytes": (90 + wave) * GIB})
        for uuid, mean in ((FIRST, 80.0), (SECOND, 40.0)):
            values = {"busy_percent": mean + 10 * wave, "temperature_celsius": 60 + 10 * wave}
            add(at, uuid, values)


def add(start: int, device: str, means: dict[str, float]) -> None:
    HistoryBucket.objects.create(
        host=HOST,
        device=device,
        width=10,
        start=start,
        count=10,
        values={name: [mean * 0.85, mean, mean * 1.1, 10] for name, mean in means.items()},
    )


def alert(rule: AlertRule | None = None, **values: Any) -> Alert:
    rule = (
        rule
        or AlertRule.objects.get_or_create(
            name="GPU too hot",
            defaults={
                "metric": AlertRule.Metric.GPU_TEMPERATURE,
                "threshold": 92,
                "clear_threshold": 89,
                "severity": "critical",
            },
        )[0]
    )
    now = timezone.now()
    return Alert.objects.create(
        **{
            "rule": rule,
            "name": rule.name,
            "severity": rule.severity,
            "host": HOST,
            "subject": FIRST,
            "state": Alert.State.OPEN,
            "value": 93,
            "message": "GPU 0 (NVIDIA H100): GPU temperature 93 °C, at least 92 °C for 1 min. "
            "qwen-lora of ana uses 58.9 GiB VRAM.",
            "since": now - timedelta(minutes=2),
            "opened_at": now - timedelta(minutes=1),
            **values,
        }
    )
