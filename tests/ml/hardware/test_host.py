from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ml.hardware import HostReader, has_fast_bf16


class FakeSystem:
    """A machine whose counters the test turns."""

    def __init__(self) -> None:
        self.disk: Any = SimpleNamespace(read_bytes=1000, write_bytes=5000)
        self.net: Any = SimpleNamespace(bytes_recv=100, bytes_sent=200)

    def cpu_percent(self, percpu: bool) -> list[float]:
        return [10.0, 31.0]

    def virtual_memory(self) -> Any:
        return SimpleNamespace(total=1000, available=400)

    def swap_memory(self) -> Any:
        return SimpleNamespace(used=7, total=70)

    def disk_usage(self, path: str) -> Any:
        return SimpleNamespace(total=500, free=100)

    def disk_io_counters(self) -> Any:
        return self.disk

    def net_io_counters(self) -> Any:
        return self.net


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_reads_this_very_machine(tmp_path: Path) -> None:
    reading = HostReader(tmp_path).read()
    assert reading.memory_total_bytes is not None
    assert reading.memory_used_bytes is not None
    assert 0 < reading.memory_used_bytes < reading.memory_total_bytes
    assert reading.disk_free_bytes
    assert reading.cpu_per_core
    assert reading.cpu_percent is not None


def test_the_load_is_the_mean_of_the_cores_and_caches_are_not_used_memory() -> None:
    reading = HostReader(Path("/"), system=FakeSystem()).read()
    assert reading.cpu_percent == 20.5
    assert reading.memory_used_bytes == 600


def test_a_rate_is_null_with_a_reason_until_the_second_look() -> None:
    system, clock = FakeSystem(), Clock()
    reader = HostReader(Path("/"), system=system, clock=clock)
    first = reader.read()
    assert first.disk_read_bytes_per_second is None
    assert "two readings" in first.reasons["disk_io"]
    clock.now += 2
    system.disk = SimpleNamespace(read_bytes=3000, write_bytes=5000)
    system.net = SimpleNamespace(bytes_recv=150, bytes_sent=200)
    second = reader.read()
    assert second.disk_read_bytes_per_second == 1000
    assert second.disk_write_bytes_per_second == 0
    assert second.network_received_bytes_per_second == 25
    assert not {"disk_io", "network"} & set(second.reasons)


def test_a_counter_that_began_anew_is_a_gap_and_not_a_spike() -> None:
    system, clock = FakeSystem(), Clock()
    reader = HostReader(Path("/"), system=system, clock=clock)
    reader.read()
    clock.now += 1
    system.net = SimpleNamespace(bytes_recv=1, bytes_sent=201)
    reading = reader.read()
    assert reading.network_received_bytes_per_second is None
    assert reading.reasons["network"] == "The counter began anew."


def test_what_cannot_be_read_does_not_spoil_the_rest() -> None:
    system = FakeSystem()
    system.disk = None

    def closed() -> Any:
        raise PermissionError(13, "Permission denied")

    system.net_io_counters = closed  # type: ignore[method-assign]
    reading = HostReader(Path("/"), system=system).read()
    assert reading.disk_read_bytes_per_second is None
    assert "counts no disk traffic" in reading.reasons["disk_io"]
    assert "Permission denied" in reading.reasons["network"]
    assert reading.memory_total_bytes == 1000


def test_pressure_is_the_share_of_time_in_which_somebody_waited(tmp_path: Path) -> None:
    (tmp_path / "pressure").mkdir()
    for name, share in (("cpu", "12.34"), ("memory", "0.00"), ("io", "3.00")):
        (tmp_path / "pressure" / name).write_text(
            f"some avg10={share} avg60=9.00 avg300=9.00 total=1\nfull avg10=99.00 total=1\n"
        )
    reading = HostReader(Path("/"), system=FakeSystem(), proc=tmp_path).read()
    assert reading.pressure_cpu_percent == 12.34
    assert reading.pressure_memory_percent == 0
    assert reading.pressure_io_percent == 3
    assert "pressure" not in reading.reasons


def test_a_kernel_without_pressure_says_so(tmp_path: Path) -> None:
    reading = HostReader(Path("/"), system=FakeSystem(), proc=tmp_path).read()
    assert reading.pressure_cpu_percent is None
    assert "PSI" in reading.reasons["pressure"]


def test_every_group_is_told_with_its_time() -> None:
    told: dict[str, str] = {}

    def observe(name: str, seconds: float, problem: str) -> None:
        told[name] = problem

    system = FakeSystem()
    system.net = None
    HostReader(Path("/"), system=system, observe=observe).read()
    assert told["host memory"] == ""
    assert "no network" in told["host network"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16", True),
        ("Features : fp asimd bf16", True),
        ("flags : fpu avx512f", False),
        ("model name : bf16", False),
    ],
)
def test_bf16_in_the_cpu_is_found(tmp_path: Path, flags: str, expected: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n")
    assert has_fast_bf16(tmp_path) is expected


def test_a_cpu_that_cannot_be_asked_has_none(tmp_path: Path) -> None:
    assert not has_fast_bf16(tmp_path)
