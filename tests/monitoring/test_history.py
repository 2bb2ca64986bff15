from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mlserver.lib import batches
from monitoring import history
from monitoring.history import advance, prune
from monitoring.models import HistoryBucket, HostSample
from tests.monitoring.rows import gpu_sample, host_sample

pytestmark = pytest.mark.django_db

START = datetime(2026, 1, 6, 10, 0, tzinfo=UTC)
HOST = "box"


def read_every_second(count: int, since: datetime = START, **values: Any) -> None:
    for second in range(count):
        host_sample(timestamp=since + timedelta(seconds=second), cpu_percent=second, **values)


def buckets(width: int, device: str = "") -> list[HistoryBucket]:
    rows = HistoryBucket.objects.filter(host=HOST, width=width, device=device)
    return list(rows.order_by("start"))


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_ten_seconds_become_a_bucket_with_minimum_mean_and_maximum() -> None:
    read_every_second(10)
    advance(HOST, after(12))
    [bucket] = buckets(10)
    assert bucket.start == START.timestamp()
    assert bucket.count == 10
    assert bucket.values["cpu_percent"] == [0, 4.5, 9, 10]
    assert bucket.values["memory_percent"] == [25, 25, 25, 10]
    assert bucket.values["disk_percent"] == [40, 40, 40, 10]
    assert "swap_used_bytes" not in bucket.values


def test_a_bucket_is_not_filled_before_its_time_is_over() -> None:
    read_every_second(10)
    advance(HOST, after(10))
    assert buckets(10) == []


def test_filling_again_changes_nothing() -> None:
    read_every_second(130)
    advance(HOST, after(140))
    before = list(HistoryBucket.objects.order_by("id").values())
    advance(HOST, after(140))
    assert list(HistoryBucket.objects.order_by("id").values()) == before
    HistoryBucket.objects.filter(width=60).delete()
    advance(HOST, after(140))
    without_id = [{**row, "id": 0} for row in before if row["width"] == 60]
    again = HistoryBucket.objects.filter(width=60).order_by("start").values()
    assert [{**row, "id": 0} for row in again] == without_id


def test_wider_buckets_keep_the_spike_and_the_weighted_mean() -> None:
    read_every_second(55)  # the last five seconds have no reading
    HostSample.objects.filter(timestamp=after(30)).update(cpu_percent=1000)
    advance(HOST, after(65))
    [minute] = buckets(60)
    low, mean, high, count = minute.values["cpu_percent"]
    assert (low, high, count, minute.count) == (0, 1000, 55, 55)
    assert mean == pytest.approx((sum(range(55)) - 30 + 1000) / 55, abs=0.001)


def test_the_widest_comes_from_the_minutes() -> None:
    for minute in range(16):
        host_sample(timestamp=after(60 * minute), cpu_percent=minute)
    for _ in range(4):  # bounded work: it needs several calls
        advance(HOST, after(60 * 16 + 5))
    [quarter] = buckets(900)
    assert quarter.values["cpu_percent"] == [0, 7, 14, 15]


def test_a_gap_stays_a_gap_and_is_stepped_over() -> None:
    read_every_second(10)
    read_every_second(10, since=after(3600))
    for _ in range(2):
        advance(HOST, after(3620))
    assert [bucket.start - START.timestamp() for bucket in buckets(10)] == [0, 3600]


def test_the_work_of_one_call_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST_BUCKETS", 3)
    read_every_second(120)
    advance(HOST, after(125))
    assert len(buckets(10)) == 3
    assert buckets(60) == []  # not before its tens are there
    for _ in range(4):
        advance(HOST, after(125))
    assert len(buckets(10)) == 12
    assert [bucket.count for bucket in buckets(60)] == [60, 60]


def test_each_gpu_has_buckets_of_its_own() -> None:
    for second in range(10):
        sample = host_sample(timestamp=after(second))
        gpu_sample(sample, busy_percent=second, limits=["hw_thermal"] if second < 3 else [])
        gpu_sample(sample, uuid="GPU-2", index=1, busy_percent=None, reasons={"limits": "too old"})
        gpu_sample(sample, uuid="", index=2, busy_percent=None)  # one that never answered
    advance(HOST, after(12))
    [first], [second_gpu] = buckets(10, "GPU-1234"), buckets(10, "GPU-2")
    assert first.values["busy_percent"] == [0, 4.5, 9, 10]
    assert first.values["slowdown"] == [0, 0.3, 1, 10]
    assert first.values["memory_percent"][1] == 3.75
    assert "busy_percent" not in second_gpu.values
    assert "slowdown" not in second_gpu.values
    assert buckets(10)
    assert HistoryBucket.objects.filter(width=10).count() == 3


def test_machines_do_not_mix() -> None:
    read_every_second(10)
    read_every_second(10, host="other")
    advance(HOST, after(12))
    assert HistoryBucket.objects.filter(host="other").count() == 0


def test_what_is_too_old_for_its_rung_is_forgotten_in_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "BATCH", 2)
    for minutes in (40, 30, 20, 16, 15.5, 10, 0):
        host_sample(timestamp=START - timedelta(minutes=minutes))
    for width, hours in ((10, 25), (10, 23), (60, 25), (900, 24 * 400)):
        start = (START - timedelta(hours=hours)).timestamp()
        HistoryBucket.objects.create(host=HOST, width=width, start=start, count=1, values={})
    assert prune(START) == 7
    assert HostSample.objects.count() == 2
    assert sorted(HistoryBucket.objects.values_list("width", flat=True)) == [10, 60]
    assert prune(START) == 0
