"""One NVIDIA GPU or MIG instance: which calls are made how often, and what they mean."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

from ml.hardware.nvidia_counters import Gpm, PcieCounters
from ml.hardware.nvidia_processes import ProcessList
from ml.hardware.nvml import (
    FUNCTION_NOT_FOUND,
    NOT_SUPPORTED,
    DeviceLost,
    DriverGone,
    Nvml,
    Unreadable,
    as_text,
)
from ml.hardware.readings import GpuProcess, GpuReading, Tier

INSTANCE = "A MIG instance does not report it; see the whole GPU."
DIVIDED = "Not reported while the GPU is divided (MIG)."
SHARED_MEMORY = "This GPU shares the memory of the host."
OF_WHOLE_GPUS = (
    "busy_percent",
    "temperature_celsius",
    "power_watts",
    "clock_sm_mhz",
    "energy_joules",
)
LIMIT_BITS = {
    0x1: "idle",
    0x2: "application_clocks",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal",
    0x40: "hw_thermal",
    0x80: "hw_power_brake",
    0x100: "display_clock",
}
COMPUTE_MODES = ("default", "exclusive_thread", "prohibited", "exclusive_process")
NOTHING: tuple[Any, ...] = (None, "", [])
FIELDS = {field.name for field in fields(GpuReading)}


def milli(value: int) -> float:
    return value / 1000


def switch(value: int) -> bool:
    return bool(value)


def name_limits(bits: int) -> list[str]:
    return [word for bit, word in LIMIT_BITS.items() if bits & bit]


@dataclass(frozen=True)
class Call:
    """One NVML call that fills one field; `constants` are names of arguments in pynvml."""

    field: str
    name: str
    constants: tuple[str, ...] = ()
    convert: Callable[[Any], Any] = float


CALLS = {
    Tier.FAST: (
        Call("temperature_celsius", "nvmlDeviceGetTemperature", ("NVML_TEMPERATURE_GPU",)),
        # Since Ampere a mean over one second, before that the power of the moment.
        Call("power_watts", "nvmlDeviceGetPowerUsage", convert=milli),
        Call("clock_sm_mhz", "nvmlDeviceGetClockInfo", ("NVML_CLOCK_SM",)),
        Call("limits", "nvmlDeviceGetCurrentClocksEventReasons", convert=name_limits),
        Call("energy_joules", "nvmlDeviceGetTotalEnergyConsumption", convert=milli),
    ),
    Tier.MEDIUM: (
        Call("clock_memory_mhz", "nvmlDeviceGetClockInfo", ("NVML_CLOCK_MEM",)),
        Call("fan_percent", "nvmlDeviceGetFanSpeed"),
        Call("performance_state", "nvmlDeviceGetPerformanceState", convert="P{}".format),
        Call("pcie_generation", "nvmlDeviceGetCurrPcieLinkGeneration", convert=int),
        Call("pcie_width", "nvmlDeviceGetCurrPcieLinkWidth", convert=int),
    ),
    Tier.SLOW: (
        Call("power_limit_watts", "nvmlDeviceGetEnforcedPowerLimit", convert=milli),
        Call(
            "temperature_limit_celsius",
            "nvmlDeviceGetTemperatureThreshold",
            ("NVML_TEMPERATURE_THRESHOLD_SLOWDOWN",),
        ),
        Call("pcie_generation_max", "nvmlDeviceGetMaxPcieLinkGeneration", convert=int),
        Call("pcie_width_max", "nvmlDeviceGetMaxPcieLinkWidth", convert=int),
        # Volatile: aggregate counts stay after a repair and would warn for ever.
        Call(
            "ecc_corrected",
            "nvmlDeviceGetTotalEccErrors",
            ("NVML_MEMORY_ERROR_TYPE_CORRECTED", "NVML_VOLATILE_ECC"),
            int,
        ),
        Call(
            "ecc_uncorrected",
            "nvmlDeviceGetTotalEccErrors",
            ("NVML_MEMORY_ERROR_TYPE_UNCORRECTED", "NVML_VOLATILE_ECC"),
            int,
        ),
        Call(
            "remapped_rows",
            "nvmlDeviceGetRemappedRows",
            convert=lambda rows: {
                "corrected": rows[0],
                "uncorrected": rows[1],
                "pending": bool(rows[2]),
                "failed": bool(rows[3]),
            },
        ),
        Call("ecc_mode", "nvmlDeviceGetEccMode", convert=lambda modes: bool(modes[0])),
        Call("mig_mode", "nvmlDeviceGetMigMode", convert=lambda modes: bool(modes[0])),
        Call("persistence_mode", "nvmlDeviceGetPersistenceMode", convert=switch),
        Call("compute_mode", "nvmlDeviceGetComputeMode", convert=lambda mode: COMPUTE_MODES[mode]),
        Call("vbios", "nvmlDeviceGetVbiosVersion", convert=as_text),
    ),
}


class NvidiaDevice:
    """Keeps between looks what is not read each second, and the counters whose change counts."""

    def __init__(
        self,
        nvml: Nvml,
        handle: Any,
        identity: GpuReading,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.identity = identity
        self.instances: list[NvidiaDevice] = []
        self.lost: str | None = None
        """Why it does not answer; None while it does."""

        self._nvml = nvml
        self._handle = handle
        self._kept: dict[Tier, GpuReading] = {}
        self._gpm = Gpm(nvml, handle, identity.uuid)
        self._pcie = PcieCounters(nvml, handle, identity.uuid, clock)
        self._processes = ProcessList(nvml, handle, identity.uuid)

    @property
    def is_instance(self) -> bool:
        return bool(self.identity.parent_uuid)

    def read(self, tier: Tier) -> Iterator[GpuReading]:
        """This GPU, and after it its MIG instances."""
        try:
            reading = self._merge(self._look(tier))
            self.lost = None
        except DeviceLost as lost:
            self.lost = lost.reason
            self._kept.clear()
            reading = self._new({"gpu": lost.reason})
        yield reading
        if self.lost is None:
            for instance in self.instances:
                yield from instance.read(tier)

    def processes(self) -> list[GpuProcess]:
        """Raises Unreadable where the driver does not tell."""
        if not self.instances:
            return self._processes.read()
        return [one for instance in self.instances for one in instance.processes()]

    def find_instances(self) -> None:
        """Look again how the GPU is divided."""
        count = self._ask("mig_count", "nvmlDeviceGetMaxMigDeviceCount") or 0
        handles = [self._find_instance(place) for place in range(count)]
        found = [(place, handle) for place, handle in enumerate(handles) if handle is not None]
        known = {instance.identity.uuid: instance for instance in self.instances}
        was_divided = bool(self.instances)
        self.instances = [self._instance(place, handle, known) for place, handle in found]
        if was_divided != bool(self.instances):
            self._nvml.forget(self.identity.uuid)

    def _find_instance(self, place: int) -> Any | None:
        try:
            return self._nvml.call("nvmlDeviceGetMigDeviceHandleByIndex", self._handle, place)
        except (DeviceLost, DriverGone):
            raise
        except Unreadable:  # not every place is taken; and none where MIG is off
            return None

    def _instance(self, place: int, handle: Any, known: dict[str, NvidiaDevice]) -> NvidiaDevice:
        uuid = as_text(self._nvml.call("nvmlDeviceGetUUID", handle))
        if uuid in known:
            return known[uuid]
        identity = self._new({})
        identity.uuid, identity.parent_uuid = uuid, self.identity.uuid
        identity.name = as_text(self._nvml.call("nvmlDeviceGetName", handle))
        identity.details = {"mig_index": place}
        return NvidiaDevice(self._nvml, handle, identity)

    def _look(self, tier: Tier) -> list[GpuReading]:
        for one in Tier:
            if one <= tier or one not in self._kept:  # the first look takes everything
                self._kept[one] = self._read_tier(one)
        return list(self._kept.values())

    def _read_tier(self, tier: Tier) -> GpuReading:
        reading = self._new({})
        if self.is_instance:
            if tier is Tier.FAST:
                reading.reasons.update(dict.fromkeys(OF_WHOLE_GPUS, INSTANCE))
                self._read_memory(reading)
            return reading
        for call in CALLS[tier]:
            arguments = [getattr(self._nvml.module, name, None) for name in call.constants]
            answer = self._take(reading, (call.field,), call.name, *arguments)
            if answer is not None:
                _set(reading, call.field, call.convert(answer))
        if tier is Tier.FAST:
            self._read_load(reading)
            self._read_memory(reading)
        elif tier is Tier.MEDIUM:
            self._gpm.read(reading)
            self._pcie.read(reading)
        return reading

    def _read_load(self, reading: GpuReading) -> None:
        names = ("busy_percent", "memory_active_percent")
        rates = self._take(reading, names, "nvmlDeviceGetUtilizationRates")
        if rates is not None:
            reading.busy_percent = float(rates.gpu)
            reading.memory_active_percent = float(rates.memory)

    def _read_memory(self, reading: GpuReading) -> None:
        names = ("memory_used_bytes", "memory_total_bytes", "memory_reserved_bytes")
        memory = self._attempt(reading, names, self._memory_info)
        if memory is None:
            return
        if memory.total == 0:
            reading.reasons.update(dict.fromkeys(names, SHARED_MEMORY))
            return
        reading.memory_total_bytes, reading.memory_used_bytes = int(memory.total), int(memory.used)
        reading.memory_reserved_bytes = getattr(memory, "reserved", None)

    def _memory_info(self) -> Any:
        """Version 2 tells what the driver keeps for itself apart from what is used."""
        uuid, name = self.identity.uuid, "nvmlDeviceGetMemoryInfo"
        version = getattr(self._nvml.module, "nvmlMemory_v2", None)
        try:
            return self._nvml.ask(uuid, "memory_v2", name, self._handle, version=version)
        except Unreadable as error:
            if error.code != FUNCTION_NOT_FOUND:
                raise
            return self._nvml.ask(uuid, "memory", name, self._handle)

    def _take(self, reading: GpuReading, names: tuple[str, ...], call: str, *arguments: Any) -> Any:
        def ask() -> Any:
            return self._nvml.ask(self.identity.uuid, names[0], call, self._handle, *arguments)

        return self._attempt(reading, names, ask)

    def _attempt(self, reading: GpuReading, names: tuple[str, ...], ask: Callable[[], Any]) -> Any:
        """The answer, or None with the reason at each of the fields that it would fill."""
        try:
            return ask()
        except (DeviceLost, DriverGone):
            raise
        except Unreadable as error:
            reading.reasons.update(dict.fromkeys(names, self._reason(error)))
            return None

    def _ask(self, field: str, call: str) -> Any:
        try:
            return self._nvml.ask(self.identity.uuid, field, call, self._handle)
        except (DeviceLost, DriverGone):
            raise
        except Unreadable:
            return None

    def _reason(self, error: Unreadable) -> str:
        divided = self.instances and error.code == NOT_SUPPORTED
        return DIVIDED if divided else error.reason

    def _merge(self, parts: list[GpuReading]) -> GpuReading:
        whole = self._new({})
        for part in parts:
            for name in FIELDS - {"details", "reasons"}:
                value = getattr(part, name)
                if value not in NOTHING:
                    setattr(whole, name, value)
            whole.details.update(part.details)
            whole.reasons.update(part.reasons)
        for name in FIELDS & set(whole.reasons):
            if getattr(whole, name) not in NOTHING:  # another call told it
                del whole.reasons[name]
        return whole

    def _new(self, reasons: dict[str, str]) -> GpuReading:
        own = self.identity
        return GpuReading(
            index=own.index,
            uuid=own.uuid,
            name=own.name,
            vendor=own.vendor,
            parent_uuid=own.parent_uuid,
            driver=own.driver,
            cuda_version=own.cuda_version,
            details=dict(own.details),
            reasons=reasons,
        )


def _set(reading: GpuReading, field: str, value: Any) -> None:
    if field in FIELDS:
        setattr(reading, field, value)
    else:
        reading.details[field] = value
