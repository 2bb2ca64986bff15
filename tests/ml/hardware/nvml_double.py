"""A recorded NVML that speaks pynvml's function names, structures and error classes.

A machine is a list of cards. Each may be divided (MIG), lost, or sit under an old driver;
every call may be broken alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml

GIB = 1 << 30
NOT_SUPPORTED, NOT_FOUND, TIMEOUT, FUNCTION_NOT_FOUND, LOST = 3, 6, 10, 13, 15
# What a driver of 2019 (418) does not have.
NEW_FUNCTIONS = {
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetRemappedRows",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetMaxMigDeviceCount",
    "nvmlGpmQueryDeviceSupport",
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetComputeRunningProcesses",
    "nvmlDeviceGetGraphicsRunningProcesses",
}


@dataclass
class Instance:
    """A MIG instance."""

    uuid: str
    name: str
    used: int = 2 * GIB
    total: int = 10 * GIB
    processes: dict[int, int | None] = field(default_factory=dict)


@dataclass
class Card:
    uuid: str
    name: str = "NVIDIA H100 80GB HBM3"
    busy: int = 37
    used: int = 3 * GIB
    total: int = 80 * GIB
    milliwatts: int = 71500
    millijoules: int = 123456
    event_reasons: int = 0
    pcie_bytes: int = 1000
    gpm: float = 42.5
    processes: dict[int, int | None] = field(default_factory=dict)
    loads: list[tuple[int, int, int]] = field(default_factory=list)
    """(time stamp, process, SM percent) that the driver still remembers."""

    instances: list[Instance] = field(default_factory=list)
    broken: dict[str, int] = field(default_factory=dict)
    """Function → error code; "*" breaks all."""


class NvmlDouble:
    def __init__(self, *cards: Card) -> None:
        self.cards = list(cards)
        self.broken: dict[str, int] = {}
        self.missing: set[str] = set()
        self.calls: list[str] = []
        self.events: list[SimpleNamespace] = []
        self.asked_since: list[int] = []

    def __getattr__(self, name: str) -> Any:
        answer = getattr(type(self), f"_{name}", None)
        if name.startswith("nvml") and answer is not None:
            return lambda *args, **options: self._call(name, answer, *args, **options)
        return getattr(pynvml, name)  # constants, structures, error classes

    def _call(self, name: str, answer: Any, *arguments: Any, **options: Any) -> Any:
        self.calls.append(name)
        if name in self.broken:
            raise pynvml.NVMLError(self.broken[name])
        if name in self.missing and "RunningProcesses" in name:
            raise pynvml.NVMLLibraryMismatchError("Unversioned function called")
        if name in self.missing or (options.get("version") and f"{name}_v2" in self.missing):
            raise pynvml.NVMLError(FUNCTION_NOT_FOUND)
        target = arguments[0] if arguments else None
        if isinstance(target, Card) and name not in ("nvmlDeviceGetHandleByIndex",):
            code = target.broken.get(name, target.broken.get("*"))
            if code is not None:
                raise pynvml.NVMLError(code)
        return answer(self, *arguments, **options)

    # --- The driver -----------------------------------------------------------------------
    def _nvmlInit(self) -> None: ...

    def _nvmlShutdown(self) -> None: ...

    def _nvmlSystemGetDriverVersion(self) -> str:
        return "580.65"

    def _nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return 12040

    def _nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def _nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        card = self.cards[index]
        if code := card.broken.get("nvmlDeviceGetHandleByIndex"):
            raise pynvml.NVMLError(code)
        return card

    # --- Identity -------------------------------------------------------------------------
    def _nvmlDeviceGetUUID(self, device: Card | Instance) -> str:
        return device.uuid

    def _nvmlDeviceGetName(self, device: Card | Instance) -> bytes:
        return device.name.encode()  # bytes in the older bindings

    # --- Every second ---------------------------------------------------------------------
    def _nvmlDeviceGetUtilizationRates(self, card: Card) -> SimpleNamespace:
        if card.instances:
            raise pynvml.NVMLError(NOT_SUPPORTED)
        return SimpleNamespace(gpu=card.busy, memory=2)

    def _nvmlDeviceGetMemoryInfo(
        self, device: Card | Instance, version: int | None = None
    ) -> SimpleNamespace:
        memory = SimpleNamespace(total=device.total, used=device.used)
        if version:
            memory.reserved = GIB // 2
        return memory

    def _nvmlDeviceGetTemperature(self, card: Card, sensor: int) -> int:
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return 41

    def _nvmlDeviceGetPowerUsage(self, card: Card) -> int:
        return card.milliwatts

    def _nvmlDeviceGetClockInfo(self, card: Card, kind: int) -> int:
        return {pynvml.NVML_CLOCK_SM: 1980, pynvml.NVML_CLOCK_MEM: 2619}[kind]

    def _nvmlDeviceGetCurrentClocksEventReasons(self, card: Card) -> int:
        return card.event_reasons

    def _nvmlDeviceGetTotalEnergyConsumption(self, card: Card) -> int:
        return card.millijoules

    # --- Every five seconds -----------------------------------------------------------------
    def _nvmlDeviceGetFanSpeed(self, card: Card) -> int:
        raise pynvml.NVMLError(NOT_SUPPORTED)  # an H100 is cooled by its server

    def _nvmlDeviceGetPerformanceState(self, card: Card) -> int:
        return 0

    def _nvmlDeviceGetCurrPcieLinkGeneration(self, card: Card) -> int:
        return 5

    def _nvmlDeviceGetCurrPcieLinkWidth(self, card: Card) -> int:
        return 16

    def _nvmlDeviceGetFieldValues(self, card: Card, ids: list[int]) -> list[SimpleNamespace]:
        assert ids == [
            pynvml.NVML_FI_DEV_PCIE_COUNT_RX_BYTES,
            pynvml.NVML_FI_DEV_PCIE_COUNT_TX_BYTES,
        ]
        value = SimpleNamespace(ullVal=card.pcie_bytes)
        kind = pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG
        return [SimpleNamespace(nvmlReturn=0, valueType=kind, value=value) for _ in ids]

    def _nvmlGpmQueryDeviceSupport(self, card: Card) -> SimpleNamespace:
        return SimpleNamespace(isSupportedDevice=1)

    def _nvmlGpmSampleAlloc(self) -> Any:
        return pynvml.c_nvmlGpmSample_t()

    def _nvmlGpmSampleGet(self, card: Card, sample: Any) -> Any:
        return sample

    def _nvmlGpmMetricsGet(self, question: Any) -> Any:
        for place in range(question.numMetrics):
            question.metrics[place].nvmlReturn = 0
            question.metrics[place].value = self.cards[0].gpm
        return question

    def _nvmlDeviceGetComputeRunningProcesses(
        self, device: Card | Instance
    ) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in device.processes.items()
        ]

    _nvmlDeviceGetComputeRunningProcesses_v2 = _nvmlDeviceGetComputeRunningProcesses

    def _nvmlDeviceGetGraphicsRunningProcesses(self, device: Card | Instance) -> list[Any]:
        return []

    _nvmlDeviceGetGraphicsRunningProcesses_v2 = _nvmlDeviceGetGraphicsRunningProcesses

    def _nvmlDeviceGetProcessUtilization(
        self, device: Card | Instance, since: int
    ) -> list[SimpleNamespace]:
        if isinstance(device, Instance):
            raise pynvml.NVMLError(NOT_SUPPORTED)
        self.asked_since.append(since)
        found = [
            SimpleNamespace(timeStamp=at, pid=pid, smUtil=load)
            for at, pid, load in device.loads
            if at > since
        ]
        if not found:
            raise pynvml.NVMLError(NOT_FOUND)
        return found

    # --- Every minute -----------------------------------------------------------------------
    def _nvmlDeviceGetEnforcedPowerLimit(self, card: Card) -> int:
        return 700000

    def _nvmlDeviceGetTemperatureThreshold(self, card: Card, threshold: int) -> int:
        assert threshold == pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
        return 87

    def _nvmlDeviceGetMaxPcieLinkGeneration(self, card: Card) -> int:
        return 5

    def _nvmlDeviceGetMaxPcieLinkWidth(self, card: Card) -> int:
        return 16

    def _nvmlDeviceGetTotalEccErrors(self, card: Card, kind: int, counter: int) -> int:
        assert counter == pynvml.NVML_VOLATILE_ECC
        return 7 if kind == pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED else 0

    def _nvmlDeviceGetRemappedRows(self, card: Card) -> tuple[int, int, int, int]:
        return (1, 0, 1, 0)

    def _nvmlDeviceGetEccMode(self, card: Card) -> list[int]:
        return [1, 1]

    def _nvmlDeviceGetMigMode(self, card: Card) -> list[int]:
        return [int(bool(card.instances))] * 2

    def _nvmlDeviceGetMaxMigDeviceCount(self, card: Card) -> int:
        return 7

    def _nvmlDeviceGetMigDeviceHandleByIndex(self, card: Card, place: int) -> Instance:
        if place >= len(card.instances):
            raise pynvml.NVMLError(NOT_FOUND)
        return card.instances[place]

    def _nvmlDeviceGetPersistenceMode(self, card: Card) -> int:
        return 1

    def _nvmlDeviceGetComputeMode(self, card: Card) -> int:
        return 0

    def _nvmlDeviceGetVbiosVersion(self, card: Card) -> str:
        return "96.00.74.00.01"

    # --- Events -----------------------------------------------------------------------------
    def _nvmlEventSetCreate(self) -> str:
        return "set"

    def _nvmlEventSetFree(self, events: str) -> None: ...

    def _nvmlDeviceGetSupportedEventTypes(self, card: Card) -> int:
        return int(pynvml.nvmlEventTypeXidCriticalError | pynvml.nvmlEventTypeDoubleBitEccError)

    def _nvmlDeviceRegisterEvents(self, card: Card, kinds: int, events: str) -> None: ...

    def _nvmlEventSetWait_v2(self, events: str, milliseconds: int) -> SimpleNamespace:
        if self.events:
            return self.events.pop(0)
        time.sleep(0.01)
        raise pynvml.NVMLError(TIMEOUT)

    # --- The machines of the tests ----------------------------------------------------------

    def happen(self, card: Card, kind: int, code: int = 0) -> None:
        self.events.append(SimpleNamespace(device=card, eventType=kind, eventData=code))


def one_card() -> NvmlDouble:
    return NvmlDouble(Card("GPU-1234"))


def two_cards() -> NvmlDouble:
    return NvmlDouble(Card("GPU-1111"), Card("GPU-2222", busy=90))


def divided() -> NvmlDouble:
    parts = [
        Instance("MIG-aaaa", "NVIDIA H100 80GB HBM3 MIG 1g.10gb"),
        Instance("MIG-bbbb", "NVIDIA H100 80GB HBM3 MIG 1g.10gb"),
    ]
    return NvmlDouble(Card("GPU-1234", instances=parts))


def old_driver() -> NvmlDouble:
    machine = NvmlDouble(Card("GPU-0418", name="Tesla V100-SXM2-16GB"))
    machine.missing = set(NEW_FUNCTIONS)
    return machine


def no_driver() -> NvmlDouble:
    machine = NvmlDouble()
    machine.broken["nvmlInit"] = 12
    return machine
