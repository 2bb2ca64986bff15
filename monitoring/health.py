"""Is the server well? Says so from rows; no driver is asked in a web request."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import psutil
from django.db import DatabaseError, InterfaceError
from django.utils import timezone
from django_q.tasks import async_task

from inference.models import LoadedModel
from inference.models import State as LoadState
from inference.services import has_manager
from jobs.models import Job
from ml.lock import find_guards
from mlserver.version import VERSION
from monitoring.models import ClusterHeartbeat, GpuSample, HostSample
from monitoring.services import is_stale, latest_sample, memory_percent

SILENT = timedelta(seconds=60)
WORRYING = timedelta(seconds=30)  # `serve` sends a canary every 15 s
OK, SILENT_WORD, UNREACHABLE, UNKNOWN = "ok", "silent", "unreachable", "unknown"
CLUSTER_NAMES = {"queue": "default", "gpu_workers": "gpu"}
MEGABYTE, GIGABYTE = 1e6, 1e9
COUNTED = ("active_sessions", "active_jobs", "models_loaded")
ANSWER_SECONDS = 2.0  # an idle cluster looks into its queue five times a second
# When this process last sent a canary to a cluster.
_sent_at: dict[str, float] = {}


def check_health() -> dict[str, Any]:
    """Always an answer, also when the database gives none."""
    try:
        services, sample = _check_services(), latest_sample()
        return _report(services, sample, _count_activity())
    except (DatabaseError, InterfaceError):
        down = {"database": UNREACHABLE, "sampler": UNKNOWN, "api": OK}
        services = {**down, **_check_inference(), **dict.fromkeys(CLUSTER_NAMES, UNKNOWN)}
        return _report(services, None, dict.fromkeys(COUNTED))


def check_readiness() -> dict[str, Any]:
    """What must answer before work may be sent here: the database and both clusters.

    A model whose worker is replaced is named: the others answer meanwhile.
    """
    try:
        services = {"database": OK, **_ask_clusters()}
        replaced = [str(loaded) for loaded in _find_replaced()]
    except (DatabaseError, InterfaceError):
        services = {"database": UNREACHABLE, **dict.fromkeys(CLUSTER_NAMES, UNKNOWN)}
        replaced = []
    ready = set(services.values()) == {OK}
    return {"ready": ready, "services": services, "models_replaced": replaced}


def _check_services() -> dict[str, str]:
    newest = HostSample.objects.order_by("-id").values_list("timestamp", flat=True).first()
    is_fresh = newest is not None and timezone.now() - newest <= SILENT
    return {
        "database": OK,
        **_check_clusters(),
        **_check_inference(),
        "sampler": OK if is_fresh else SILENT_WORD,
        "api": OK,
    }


def _check_clusters() -> dict[str, str]:
    alive = _heard_within(SILENT)
    return {
        service: OK if cluster in alive else SILENT_WORD
        for service, cluster in CLUSTER_NAMES.items()
    }


def _check_inference() -> dict[str, str]:
    return {"inference": OK if has_manager() else SILENT_WORD}


def _find_replaced() -> Iterable[LoadedModel]:
    """Those that had a worker, and are about to get another one."""
    waiting = LoadedModel.objects.wanted().filter(stumbles__gt=0)
    on_their_way = waiting.filter(state__in=[LoadState.WAITING, LoadState.LOADING])
    return on_their_way.select_related("version__model")


def _heard_within(period: timedelta) -> set[str]:
    seen = ClusterHeartbeat.objects.filter(seen_at__gt=timezone.now() - period)
    return set(seen.values_list("cluster", flat=True))


def _ask_clusters() -> dict[str, str]:
    """Where `serve` does not run, nobody sends canaries: then this does, and waits a moment."""
    ends_at = time.monotonic() + (ANSWER_SECONDS if _send_canaries() else 0)
    while SILENT_WORD in (found := _check_clusters()).values() and time.monotonic() < ends_at:
        time.sleep(0.1)
    return found


def _send_canaries() -> bool:
    """To each silent one; once a minute, for a dead one must not find thousands."""
    now = time.monotonic()
    due = [
        cluster
        for cluster in {*CLUSTER_NAMES.values()} - _heard_within(WORRYING)
        if now - _sent_at.get(cluster, float("-inf")) >= SILENT.total_seconds()
    ]
    for cluster in due:
        _sent_at[cluster] = now
        async_task("monitoring.tasks.canary", cluster, cluster=cluster, save=False)
    return bool(due)


def _count_activity() -> dict[str, int | None]:
    return {
        "active_sessions": Job.objects.filter(training_session__isnull=False).running().count(),
        "active_jobs": Job.objects.active().count(),
        "models_loaded": LoadedModel.objects.filter(state=LoadState.READY).count(),
    }


def _report(
    services: dict[str, str], sample: HostSample | None, activity: dict[str, int | None]
) -> dict[str, Any]:
    if sample is not None and is_stale(sample):
        sample = None
    return {
        "status": judge(services, sample, is_training=bool(activity["active_sessions"])),
        "version": VERSION,
        "timestamp": timezone.now(),
        "uptime_seconds": round(timezone.now().timestamp() - psutil.Process().create_time(), 1),
        "services": services,
        "lock": asdict(find_guards()),
        **_describe_gpus(
            [gpu for gpu in sample.gpus.all() if not gpu.parent_uuid] if sample else []
        ),
        "memory_used_mb": _in(MEGABYTE, sample.memory_used_bytes if sample else None),
        "memory_available_mb": _in(MEGABYTE, sample.memory_available_bytes if sample else None),
        "cpu_usage_percent": sample.cpu_percent if sample else None,
        **activity,
    }


def judge(services: dict[str, str], sample: HostSample | None, *, is_training: bool) -> str:
    """`healthy`, `degraded` or `unhealthy`. A CPU that our own training keeps busy is well."""
    memory = (memory_percent(sample) if sample else None) or 0
    cpu = (sample.cpu_percent if sample else None) or 0
    if set(services.values()) != {OK} or memory > 95:
        return "unhealthy"
    if memory > 90 or (cpu > 80 and not is_training):
        return "degraded"
    return "healthy"


def _describe_gpus(gpus: list[GpuSample]) -> dict[str, Any]:
    used = [gpu.memory_used_bytes for gpu in gpus if gpu.memory_used_bytes is not None]
    return {
        "gpu_available": bool(gpus),
        "gpu_name": gpus[0].name if gpus else None,
        "cuda_version": (gpus[0].cuda_version or None) if gpus else None,
        "memory_allocated_gb": round(sum(used) / GIGABYTE, 2) if used else None,
    }


def _in(unit: float, size: int | None) -> float | None:
    return None if size is None else round(size / unit, 1)
