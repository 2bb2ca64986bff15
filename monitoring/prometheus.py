"""/metrics: what Prometheus scrapes. States are read from the rows, requests from the counters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.conf import settings
from django.db.models import Count
from django.utils import timezone
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from inference.models import LoadedModel
from inference.models import State as LoadState
from jobs.models import Job, State
from monitoring.metering import HELP
from monitoring.models import GpuSample, HostSample
from monitoring.services import CLUSTERS, is_stale, latest_sample
from sessions.models import TrainingSession

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
GIGABYTE = 1e9
HOST_GAUGES = {
    "cpu_usage_percent": ("cpu_percent", "Processor time in use, all cores."),
    "ram_usage_bytes": ("memory_used_bytes", "Memory in use, without caches."),
    "ram_available_bytes": ("memory_available_bytes", "Memory that programs could get."),
    "disk_free_bytes": ("disk_free_bytes", "Free space of the file system with the data."),
}
GPU_GAUGES = {
    "gpu_busy_ratio": ("busy_percent", 0.01, "Share of time in which any kernel ran."),
    "gpu_memory_used_bytes": ("memory_used_bytes", 1, "Memory in use."),
    "gpu_temperature_celsius": ("temperature_celsius", 1, "Temperature."),
    "gpu_power_watts": ("power_watts", 1, "Power, as the driver averages it."),
}


def render_metrics() -> bytes:
    registry = CollectorRegistry()
    registry.register(RequestCollector())
    registry.register(StateCollector())
    return generate_latest(registry)


def describe_metrics() -> dict[str, Any]:
    """The same for people who come with document 000: three numbers as JSON."""
    sample = _fresh_sample()
    used = [gpu.memory_used_bytes for gpu in _whole_gpus(sample) if gpu.memory_used_bytes]
    return {
        "active_jobs": Job.objects.active().count(),
        "completed_jobs": Job.objects.filter(state=State.COMPLETED).count(),
        "gpu_memory_allocated_gb": round(sum(used) / GIGABYTE, 2) if used else None,
    }


class RequestCollector:
    """What all web processes counted."""

    def collect(self) -> Iterable[Metric]:
        files = MultiProcessCollector(None, str(settings.METRICS_DIR))  # type: ignore[no-untyped-call]
        found: list[Metric] = list(files.collect())  # type: ignore[no-untyped-call]
        for metric in found:
            metric.documentation = HELP.get(metric.name, metric.documentation)
        return found


class StateCollector:
    """What is true now. Old readings are left out instead of repeated."""

    def collect(self) -> Iterator[Metric]:
        yield from _sessions()
        yield _queues()
        yield from _models()
        newest = latest_sample()
        if newest is None:
            return
        age = (timezone.now() - newest.timestamp).total_seconds()
        yield GaugeMetricFamily("sampler_age_seconds", "Age of the newest reading.", age)
        if not is_stale(newest):
            yield from _host(newest)
            yield from _gpus(list(newest.gpus.all()))


def _sessions() -> Iterator[Metric]:
    states = GaugeMetricFamily("training_sessions", "Training sessions by state.", labels=["state"])
    rows = Job.objects.filter(training_session__isnull=False).order_by().values_list("state")
    counts = dict(rows.annotate(count=Count("pk")))
    for state in State.values:
        states.add_metric([state], counts.get(state, 0))
    yield states
    losses = GaugeMetricFamily(
        "training_loss", "Newest loss of each session that runs.", labels=["session"]
    )
    running = TrainingSession.objects.filter(job__state=State.RUNNING)
    for session, summary in running.values_list("pk", "summary"):
        loss = (summary.get("latest") or {}).get("loss")
        if loss is not None:
            losses.add_metric([session], loss)
    yield losses


def _models() -> Iterator[Metric]:
    ready = LoadedModel.objects.filter(state=LoadState.READY).select_related("version__model")
    memory = GaugeMetricFamily(
        "model_memory_bytes", "Measured memory of each model's worker.", labels=["model_name"]
    )
    count = 0
    for loaded in ready:
        count += 1
        memory.add_metric([str(loaded)], loaded.memory_bytes or 0)
    yield GaugeMetricFamily("models_loaded", "Models in memory that answer.", count)
    yield memory


def _queues() -> Metric:
    depth = GaugeMetricFamily("queue_depth", "Jobs that wait, by cluster.", labels=["cluster"])
    waiting = Job.objects.filter(state=State.QUEUED).order_by().values_list("kind")
    by_cluster = dict.fromkeys(CLUSTERS, 0)
    for kind, count in waiting.annotate(count=Count("pk")):
        cluster = settings.JOB_KINDS.get(kind, {}).get("cluster", "default")
        by_cluster[cluster] = by_cluster.get(cluster, 0) + count
    for cluster, count in by_cluster.items():
        depth.add_metric([cluster], count)
    return depth


def _host(sample: HostSample) -> Iterator[Metric]:
    for name, (field, text) in HOST_GAUGES.items():
        value = getattr(sample, field)
        if value is not None:
            yield GaugeMetricFamily(name, text, value)


def _gpus(gpus: list[GpuSample]) -> Iterator[Metric]:
    """`gpu` is the index; of a MIG instance, index:instance."""
    info = GaugeMetricFamily(
        "gpu_info", "What each GPU is; always 1.", labels=["gpu", "uuid", "name", "driver"]
    )
    for gpu in gpus:
        info.add_metric([_label(gpu), gpu.uuid, gpu.name, gpu.driver], 1)
    yield info
    for name, (field, scale, text) in GPU_GAUGES.items():
        values = {_label(gpu): getattr(gpu, field) for gpu in gpus}
        yield _family(GaugeMetricFamily, name, text, values, scale)
    free = {_label(gpu): _available(gpu) for gpu in gpus}
    yield _family(GaugeMetricFamily, "gpu_memory_available_bytes", "Memory that is free.", free)
    energy = {_label(gpu): gpu.energy_joules for gpu in gpus}
    text = "Energy since the driver was loaded."
    yield _family(CounterMetricFamily, "gpu_energy_joules_total", text, energy)


def _family(
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily],
    name: str,
    text: str,
    values: Mapping[str, float | None],
    scale: float = 1,
) -> Metric:
    family = kind(name, text, labels=["gpu"])
    for gpu, value in values.items():
        if value is not None:
            family.add_metric([gpu], value * scale)
    return family


def _label(gpu: GpuSample) -> str:
    instance = gpu.details.get("mig_index")
    return str(gpu.index) if instance is None else f"{gpu.index}:{instance}"


def _available(gpu: GpuSample) -> int | None:
    if gpu.memory_total_bytes is None or gpu.memory_used_bytes is None:
        return None
    return gpu.memory_total_bytes - gpu.memory_used_bytes - (gpu.memory_reserved_bytes or 0)


def _fresh_sample() -> HostSample | None:
    sample = latest_sample()
    return None if sample is None or is_stale(sample) else sample


def _whole_gpus(sample: HostSample | None) -> list[GpuSample]:
    return [gpu for gpu in sample.gpus.all() if not gpu.parent_uuid] if sample else []
