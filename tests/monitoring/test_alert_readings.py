"""What rules measure, and the words they find for it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from jobs.models import State
from monitoring import alerts
from monitoring.models import HardwareEvent
from tests import factories
from tests.monitoring.alert_scene import START, Metric, processes, rule, sample
from tests.monitoring.rows import GIB

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("only_own_rules")]


# --- What is measured ---------------------------------------------------------------------------


def value_of(metric: str, gpu: dict[str, Any] | None = None, **host: Any) -> float | None:
    from monitoring.alert_readings import Look, read

    found = list(read(metric, Look(sample(0, gpu, **host), START)))
    return found[0].value if found else None


def test_every_metric_has_a_reading() -> None:
    for metric in Metric.values:
        value_of(metric, {})


def test_shares_are_of_the_whole_and_unknown_where_a_part_is() -> None:
    assert value_of(Metric.MEMORY) == 25
    assert value_of(Metric.DISK) == 40
    assert value_of(Metric.DISK, disk_free_bytes=None) is None
    assert value_of(Metric.GPU_MEMORY, {"memory_used_bytes": 40_000_000_000}) == 50
    assert value_of(Metric.GPU_POWER, {"power_watts": 300.0}) is None


def test_only_limits_of_the_hardware_are_a_slowdown() -> None:
    assert value_of(Metric.GPU_SLOWDOWN, {"limits": ["sw_power_cap"]}) == 0
    assert value_of(Metric.GPU_SLOWDOWN, {"limits": ["idle", "hw_thermal"]}) == 1
    assert value_of(Metric.GPU_SLOWDOWN, {"reasons": {"limits": "too old"}}) is None


def test_a_gpu_that_does_not_answer_is_lost() -> None:
    assert value_of(Metric.GPU_LOST, {"reasons": {"gpu": "fell off the bus"}}) == 1
    assert value_of(Metric.GPU_LOST, {}) == 0


def test_errors_of_the_driver_count_for_ten_minutes() -> None:
    for minutes, kind in ((1, "xid"), (11, "xid"), (2, "ecc")):
        when = START - timedelta(minutes=minutes)
        HardwareEvent.objects.create(
            host="box", timestamp=when, uuid="GPU-1234", kind=kind, message="x"
        )
    assert value_of(Metric.GPU_XID, {}) == 1


def test_an_idle_gpu_matters_only_while_a_session_holds_it() -> None:
    assert value_of(Metric.GPU_HELD_BUSY, {"busy_percent": 0.0}) == 100
    factories.session(state=State.RUNNING, host="box", summary={"gpu": "0"})
    assert value_of(Metric.GPU_HELD_BUSY, {"busy_percent": 2.0}) == 2
    assert value_of(Metric.GPU_HELD_BUSY, {"busy_percent": 2.0, "index": 1}) == 100


# --- Words --------------------------------------------------------------------------------------


def test_the_text_names_who_causes_it_largest_first() -> None:
    rule(Metric.GPU_MEMORY, threshold=97, clear_threshold=95, for_seconds=0)
    processes(
        {"gpu_uuid": "GPU-1234", "gpu_memory_bytes": 2 * GIB, "command": "jupyter"},
        {"gpu_uuid": "GPU-1234", "gpu_memory_bytes": 58 * GIB, "session": "train_1", "owner": "bo"},
        {"gpu_uuid": "GPU-other", "gpu_memory_bytes": 70 * GIB},
    )
    row = sample(0, {"memory_used_bytes": 78_400_000_000})
    [alert] = alerts.evaluate(row.timestamp, row)
    assert alert.message == (
        "GPU 0 (NVIDIA H100): VRAM used 98 %, at least 97 %. "
        "train_1 of bo uses 58.0 GiB VRAM; jupyter (PID 7, ana) uses 2.0 GiB VRAM."
    )


def test_a_full_disk_names_what_fills_it() -> None:
    rule(Metric.DISK, threshold=90, clear_threshold=None)
    factories.dataset_version(size_bytes=3 * GIB)
    for seconds in range(0, 65, 5):
        row = sample(seconds, disk_free_bytes=5 * GIB)
        opened = alerts.evaluate(row.timestamp, row)
    [alert] = opened
    assert alert.message == (
        "box: Disk used 95 %, at least 90 % for 1 min. Datasets take 3.0 GiB, models 0.0 GiB."
    )


def test_what_is_yes_or_no_has_no_number() -> None:
    rule(Metric.GPU_LOST, threshold=1, clear_threshold=None, for_seconds=0)
    row = sample(0, {"reasons": {"gpu": "It fell off the bus."}})
    [alert] = alerts.evaluate(row.timestamp, row)
    assert alert.message == "GPU 0 (NVIDIA H100): GPU that does not answer."
