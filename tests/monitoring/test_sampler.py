from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from ml.hardware import GpuReader, HostReader
from ml.hardware.amd import AmdReader
from ml.hardware.nvidia import NvidiaReader
from monitoring.models import GpuSample, HardwareEvent, HistoryBucket, HostSample, ProcessTable
from monitoring.sampler import Sampler
from tests.ml.hardware.nvml_double import LOST, NvmlDouble, divided, no_driver, one_card, two_cards

pytestmark = pytest.mark.django_db


def make_sampler(tmp_path: Path, nvml: NvmlDouble | None = None) -> Sampler:
    gpus = GpuReader(NvidiaReader(nvml or one_card()), AmdReader(tmp_path / "nowhere"))
    return Sampler(HostReader(tmp_path), gpus)


def test_a_tick_keeps_the_machine_and_each_gpu(tmp_path: Path) -> None:
    sample = make_sampler(tmp_path).tick()
    assert HostSample.objects.get() == sample
    assert sample.memory_total_bytes
    assert sample.gpu_count == 1
    gpu = GpuSample.objects.get()
    assert (gpu.vendor, gpu.cuda_version, gpu.power_watts) == ("nvidia", "12.4", 71.5)
    assert gpu.details["ecc_corrected"] == 7


def test_instances_of_a_divided_gpu_are_kept_under_it_and_not_counted(tmp_path: Path) -> None:
    sample = make_sampler(tmp_path, divided()).tick()
    assert sample.gpu_count == 1
    assert list(sample.gpus.values_list("uuid", "parent_uuid")) == [
        ("GPU-1234", ""),
        ("MIG-aaaa", "GPU-1234"),
        ("MIG-bbbb", "GPU-1234"),
    ]


def test_a_machine_without_a_gpu_keeps_the_reason(tmp_path: Path) -> None:
    sample = make_sampler(tmp_path, no_driver()).tick()
    assert sample.gpu_count == 0
    assert sample.reasons["gpus"] == "No NVIDIA driver found – running on CPU."


def test_expensive_readings_come_less_often(tmp_path: Path) -> None:
    nvml = one_card()
    subject = make_sampler(tmp_path, nvml)
    for _ in range(11):
        subject.tick()
    assert nvml.calls.count("nvmlDeviceGetUtilizationRates") == 11
    assert nvml.calls.count("nvmlDeviceGetComputeRunningProcesses") == 3
    assert nvml.calls.count("nvmlDeviceGetVbiosVersion") == 1


def test_the_processes_of_the_server_are_kept_also_without_a_gpu(tmp_path: Path) -> None:
    make_sampler(tmp_path, no_driver()).tick()
    rows = ProcessTable.objects.get().processes
    assert "server" in {row["kind"] for row in rows}
    assert all(row["gpu_uuid"] is None for row in rows)


def test_what_happens_to_a_gpu_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nvml = two_cards()
    subject = make_sampler(tmp_path, nvml)
    subject.tick()
    nvml.cards[1].broken["*"] = LOST
    subject.tick()
    event = HardwareEvent.objects.get()
    assert (event.kind, event.uuid) == ("lost", "GPU-2222")
    assert "fell off the bus" in caplog.text
    lost = GpuSample.objects.filter(uuid="GPU-2222").latest("id")
    assert "fell off the bus" in lost.reasons["gpu"]


def test_history_is_filled_before_the_old_samples_are_forgotten(tmp_path: Path) -> None:
    subject = make_sampler(tmp_path)
    old = timezone.now() - timedelta(hours=3)
    HostSample.objects.create(host=subject.host_name, timestamp=old, cpu_percent=70)
    subject.tick()
    assert HostSample.objects.count() == 1
    bucket = HistoryBucket.objects.get(width=10, device="")
    assert bucket.values["cpu_percent"] == [70, 70, 70, 1]


def test_a_tick_costs_few_queries(tmp_path: Path, django_assert_max_num_queries: Any) -> None:
    subject = make_sampler(tmp_path)
    subject.tick()
    with django_assert_max_num_queries(4):
        subject.tick()
