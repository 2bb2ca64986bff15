"""What one look at the machine gives. `None` is a reading that could not be taken; `reasons`
says why, by the name of the field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

Observer = Callable[[str, float, str], None]
"""Gets each call's name, its seconds, and what went wrong (empty: nothing)."""


class Tier(IntEnum):
    """How much a look takes: a deeper one includes the shallower."""

    FAST = 1  # every second: what moves
    MEDIUM = 2  # every 5 seconds: what costs more, and what moves slower
    SLOW = 3  # every minute: modes, limits, error counts, layout


@dataclass(kw_only=True)
class HostReading:
    cpu_percent: float | None = None
    cpu_per_core: list[float] = field(default_factory=list)
    load_1m: float | None = None
    load_5m: float | None = None
    load_15m: float | None = None
    pressure_cpu_percent: float | None = None
    """Share of the last 10 seconds in which at least one task waited (PSI, `some avg10`)."""

    pressure_memory_percent: float | None = None
    pressure_io_percent: float | None = None
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    memory_available_bytes: int | None = None
    swap_used_bytes: int | None = None
    swap_total_bytes: int | None = None
    disk_total_bytes: int | None = None
    disk_free_bytes: int | None = None
    disk_read_bytes_per_second: float | None = None
    disk_write_bytes_per_second: float | None = None
    network_received_bytes_per_second: float | None = None
    network_sent_bytes_per_second: float | None = None
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class GpuReading:
    index: int
    uuid: str
    name: str
    vendor: str = ""
    parent_uuid: str = ""
    """Of the GPU that a MIG instance is a part of; empty for a whole GPU."""

    driver: str = ""
    cuda_version: str = ""
    """The newest CUDA that the driver speaks; empty where the GPU is not NVIDIA's."""

    busy_percent: float | None = None
    """Share of the sample period in which any kernel ran; not how much of the GPU it used."""

    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    memory_reserved_bytes: int | None = None
    memory_active_percent: float | None = None
    temperature_celsius: float | None = None
    temperature_limit_celsius: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    clock_sm_mhz: float | None = None
    clock_memory_mhz: float | None = None
    fan_percent: float | None = None
    pcie_received_bytes_per_second: float | None = None
    pcie_sent_bytes_per_second: float | None = None
    sm_active_percent: float | None = None
    sm_occupancy_percent: float | None = None
    tensor_active_percent: float | None = None
    energy_joules: float | None = None
    """Counted since the driver was loaded; differences are meant to be used."""

    limits: list[str] = field(default_factory=list)
    """Why the clock is not higher, as keys of LIMITS."""

    details: dict[str, Any] = field(default_factory=dict)
    """What changes seldom: modes, error counts, PCIe link, firmware."""

    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Limit:
    text: str
    level: str
    """`note` is normal life; `warning` is a machine that needs attention."""


LIMITS = {
    "idle": Limit("Nothing runs", "note"),
    "application_clocks": Limit("Clock set by the application clocks", "note"),
    "sw_power_cap": Limit("At the power limit", "note"),
    "hw_slowdown": Limit("Slowed down by the hardware", "warning"),
    "sync_boost": Limit("Held back by another GPU (sync boost)", "note"),
    "sw_thermal": Limit("Slowed down by the driver: too hot", "warning"),
    "hw_thermal": Limit("Slowed down by the hardware: too hot", "warning"),
    "hw_power_brake": Limit("Power brake: the power supply asked to slow down", "warning"),
    "display_clock": Limit("Clock set by a display", "note"),
}


@dataclass(frozen=True, kw_only=True)
class GpuProcess:
    """A process that a driver names; memory and load may be unknown to it."""

    pid: int
    gpu_uuid: str
    memory_bytes: int | None = None
    sm_percent: float | None = None
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DriverEvent:
    """`kind` is xid, ecc, lost or back; `uuid` is empty for the driver itself."""

    kind: str
    message: str
    uuid: str = ""
    code: int | None = None
