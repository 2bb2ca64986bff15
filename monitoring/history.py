"""The history of the readings: a ladder of buckets that grow wider as they grow older.

Every bucket keeps minimum, mean and maximum, so spikes survive; where nothing was read
there is no bucket, and a reader sees a gap. Filling is idempotent, and bounded per call.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils import timezone

from ml.hardware.readings import LIMITS
from mlserver.lib.batches import delete_in_batches
from monitoring.models import GpuSample, HistoryBucket, HostSample

RAW_KEPT = timedelta(minutes=15)
GRACE_SECONDS = 2  # a sample is stamped a moment before it is stored
MOST_BUCKETS = 60  # filled in one call, of each width


@dataclass(frozen=True)
class Rung:
    width: int
    kept: timedelta


LADDER = (
    Rung(10, timedelta(hours=24)),
    Rung(60, timedelta(days=14)),
    Rung(900, timedelta(days=365)),
)

Row = dict[str, Any]
Values = dict[str, list[float]]
"""metric → [minimum, mean, maximum, number of readings]."""


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else 100 * part / whole


def _used_disk(row: Row) -> float | None:
    total, free = row["disk_total_bytes"], row["disk_free_bytes"]
    return None if free is None else _share((total or 0) - free, total)


def _memory(row: Row) -> float | None:
    return _share(row["memory_used_bytes"], row["memory_total_bytes"])


def _slowdown(row: Row) -> float | None:
    """1 while something is wrong (heat, power brake), else 0; the power limit is normal."""
    if "limits" in row["reasons"] or row["busy_percent"] is None:
        return None
    known = (LIMITS[word].level for word in row["limits"] if word in LIMITS)
    return float("warning" in known)


Metric = Callable[[Row], float | None]


def _plain(names: Iterable[str]) -> dict[str, Metric]:
    def take(name: str) -> Metric:
        return lambda row: row[name]

    return {name: take(name) for name in names}


HOST_METRICS: dict[str, Metric] = {
    **_plain(
        (
            "cpu_percent",
            "load_1m",
            "memory_used_bytes",
            "swap_used_bytes",
            "disk_free_bytes",
            "disk_read_bytes_per_second",
            "disk_write_bytes_per_second",
            "network_received_bytes_per_second",
            "network_sent_bytes_per_second",
            "pressure_cpu_percent",
            "pressure_memory_percent",
            "pressure_io_percent",
        )
    ),
    "memory_percent": _memory,
    "disk_percent": _used_disk,
}
GPU_METRICS: dict[str, Metric] = {
    **_plain(
        (
            "busy_percent",
            "memory_used_bytes",
            "memory_active_percent",
            "temperature_celsius",
            "power_watts",
            "clock_sm_mhz",
            "clock_memory_mhz",
            "fan_percent",
            "pcie_received_bytes_per_second",
            "pcie_sent_bytes_per_second",
            "sm_active_percent",
            "sm_occupancy_percent",
            "tensor_active_percent",
            "energy_joules",
        )
    ),
    "memory_percent": _memory,
    "slowdown": _slowdown,
}
HOST_FIELDS = sorted(
    {*HOST_METRICS, "memory_total_bytes", "disk_total_bytes"} - {"memory_percent", "disk_percent"}
)
GPU_FIELDS = sorted(
    {*GPU_METRICS, "memory_total_bytes", "limits", "reasons"} - {"memory_percent", "slowdown"}
)


@dataclass
class Point:
    """What one device did at one time: a raw reading, or a bucket of them."""

    time: float
    device: str
    values: Values
    count: int = 1


@dataclass
class Gathered:
    """A bucket while it is being filled."""

    count: int = 0
    values: Values = field(default_factory=dict)

    def add(self, point: Point) -> None:
        self.count += point.count
        for name, (low, mean, high, count) in point.values.items():
            if name not in self.values:
                self.values[name] = [low, mean, high, count]
                continue
            mine = self.values[name]
            total = mine[3] + count
            mine[1] = (mine[1] * mine[3] + mean * count) / total
            mine[0], mine[2], mine[3] = min(mine[0], low), max(mine[2], high), total

    def rounded(self) -> Values:
        return {name: [round(one, 3) for one in values] for name, values in self.values.items()}


def advance(host: str, now: datetime | None = None) -> None:
    """Fill what has become complete since the last call, finest first."""
    complete_until = (now or timezone.now()).timestamp() - GRACE_SECONDS
    source = 0
    for rung in LADDER:
        complete_until = _fill(host, rung.width, source, complete_until)
        source = rung.width


def _fill(host: str, width: int, source: int, until: float) -> float:
    """Make the next buckets of `width`; answers up to which time there are all of them."""
    end = until // width * width
    newest = HistoryBucket.objects.filter(host=host, width=width).order_by("-start")
    last = newest.values_list("start", flat=True).first()
    first = _first_time(host, source, -1 if last is None else last + width)
    if first is None or first >= end:
        return end
    start = first // width * width
    end = min(end, start + MOST_BUCKETS * width)
    gathered: dict[tuple[int, str], Gathered] = defaultdict(Gathered)
    for point in read_points(host, source, start, end):
        gathered[int(point.time // width * width), point.device].add(point)
    _store(host, width, gathered)
    return end


def _store(host: str, width: int, gathered: dict[tuple[int, str], Gathered]) -> None:
    """Filling the same bucket again gives the same row."""
    HistoryBucket.objects.bulk_create(
        (
            HistoryBucket(
                host=host,
                device=device,
                width=width,
                start=start,
                count=bucket.count,
                values=bucket.rounded(),
            )
            for (start, device), bucket in gathered.items()
        ),
        update_conflicts=True,
        unique_fields=["host", "width", "start", "device"],
        update_fields=["count", "values"],
    )


def _first_time(host: str, source: int, since: float) -> float | None:
    """The time of the oldest point of the source that is not older than `since`."""
    if source:
        buckets = HistoryBucket.objects.filter(host=host, width=source, start__gte=since)
        return buckets.order_by("start").values_list("start", flat=True).first()
    raw = HostSample.objects.filter(host=host, timestamp__gte=_moment(since))
    oldest = raw.order_by("timestamp").values_list("timestamp", flat=True).first()
    return None if oldest is None else oldest.timestamp()


def read_points(
    host: str, source: int, start: float, end: float, devices: Iterable[str] | None = None
) -> Iterator[Point]:
    """Points with start ≤ time < end, in no order; `source` is a width, 0 for raw readings."""
    wanted = None if devices is None else set(devices)
    if source:
        yield from _bucket_points(host, source, start, end, wanted)
        return
    if wanted is None or "" in wanted:
        yield from _host_points(host, start, end)
    if wanted is None or wanted - {""}:
        yield from _gpu_points(host, start, end, wanted)


def _bucket_points(
    host: str, width: int, start: float, end: float, wanted: set[str] | None
) -> Iterator[Point]:
    rows = HistoryBucket.objects.filter(host=host, width=width, start__gte=start, start__lt=end)
    if wanted is not None:
        rows = rows.filter(device__in=wanted)
    for bucket in rows.order_by().values_list("start", "device", "values", "count").iterator():
        yield Point(*bucket)


def _host_points(host: str, start: float, end: float) -> Iterator[Point]:
    rows = HostSample.objects.filter(
        host=host, timestamp__gte=_moment(start), timestamp__lt=_moment(end)
    )
    for row in rows.order_by().values("timestamp", *HOST_FIELDS).iterator():
        yield Point(row["timestamp"].timestamp(), "", _measure(row, HOST_METRICS))


def _gpu_points(host: str, start: float, end: float, wanted: set[str] | None) -> Iterator[Point]:
    rows = GpuSample.objects.filter(
        host_sample__host=host,
        host_sample__timestamp__gte=_moment(start),
        host_sample__timestamp__lt=_moment(end),
    ).exclude(uuid="")
    if wanted is not None:
        rows = rows.filter(uuid__in=wanted)
    for row in rows.order_by().values("host_sample__timestamp", "uuid", *GPU_FIELDS).iterator():
        time = row["host_sample__timestamp"].timestamp()
        yield Point(time, row["uuid"], _measure(row, GPU_METRICS))


def _measure(row: Row, metrics: dict[str, Metric]) -> Values:
    taken = ((name, metric(row)) for name, metric in metrics.items())
    return {name: [value, value, value, 1] for name, value in taken if value is not None}


def prune(now: datetime | None = None) -> int:
    """Forget what is older than its rung keeps, a batch at a time."""
    now = now or timezone.now()
    count = delete_in_batches(HostSample.objects.filter(timestamp__lt=now - RAW_KEPT))
    for rung in LADDER:
        oldest = (now - rung.kept).timestamp()
        old = HistoryBucket.objects.filter(width=rung.width, start__lt=oldest)
        count += delete_in_batches(old)
    return count


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(max(0, seconds), UTC)
