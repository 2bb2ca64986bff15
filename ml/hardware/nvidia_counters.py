"""Readings of an NVIDIA GPU that are differences between two looks: GPM and PCIe traffic."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ml.hardware.nvml import DeviceLost, DriverGone, Nvml, Unreadable, explain
from ml.hardware.readings import GpuReading

FIRST = "It needs two readings; this is the first."
ANEW = "The counter began anew."
NO_GPM = "This GPU does not report it (GPM begins with Hopper)."
GPM_FIELDS = {
    "sm_active_percent": "NVML_GPM_METRIC_SM_UTIL",
    "sm_occupancy_percent": "NVML_GPM_METRIC_SM_OCCUPANCY",
    "tensor_active_percent": "NVML_GPM_METRIC_ANY_TENSOR_UTIL",
    "memory_active_percent": "NVML_GPM_METRIC_DRAM_BW_UTIL",
}
PCIE_FIELDS = {
    "pcie_received_bytes_per_second": "NVML_FI_DEV_PCIE_COUNT_RX_BYTES",
    "pcie_sent_bytes_per_second": "NVML_FI_DEV_PCIE_COUNT_TX_BYTES",
}
# Which member of the union holds the value, by `valueType`.
MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")


class Gpm:
    """How much of the GPU was used between this look and the one before, measured by itself."""

    def __init__(self, nvml: Nvml, handle: Any, uuid: str) -> None:
        self._nvml = nvml
        self._handle = handle
        self._uuid = uuid
        self._is_supported: bool | None = None
        self._before: Any = None
        self._spare: Any = None

    def read(self, reading: GpuReading) -> None:
        try:
            self._read(reading)
        except (DeviceLost, DriverGone):
            raise
        except Unreadable as error:
            for field in GPM_FIELDS:
                reading.reasons[field] = error.reason

    def _read(self, reading: GpuReading) -> None:
        if not self._supports():
            raise Unreadable(NO_GPM)
        now = self._sample()
        before, self._before, self._spare = self._before, now, self._before
        if before is None:
            raise Unreadable(FIRST)
        for (field, _), metric in zip(
            GPM_FIELDS.items(), self._compare(before, now).metrics, strict=False
        ):
            if metric.nvmlReturn == 0:
                setattr(reading, field, round(metric.value, 1))
            else:
                reading.reasons[field] = explain(metric.nvmlReturn, "no GPM value").reason

    def _supports(self) -> bool:
        if self._is_supported is None:
            answer = self._nvml.ask(self._uuid, "gpm", "nvmlGpmQueryDeviceSupport", self._handle)
            self._is_supported = bool(answer.isSupportedDevice)
        return self._is_supported

    def _sample(self) -> Any:
        """Two buffers of the driver take turns; they live as long as the process."""
        sample = self._spare or self._nvml.call("nvmlGpmSampleAlloc")
        self._spare = None
        self._nvml.call("nvmlGpmSampleGet", self._handle, sample)
        return sample

    def _compare(self, before: Any, now: Any) -> Any:
        module = self._nvml.module
        question = module.c_nvmlGpmMetricsGet_t()
        question.version = module.NVML_GPM_METRICS_GET_VERSION
        question.numMetrics = len(GPM_FIELDS)
        question.sample1, question.sample2 = before, now
        for place, name in enumerate(GPM_FIELDS.values()):
            question.metrics[place].metricId = getattr(module, name)
        return self._nvml.call("nvmlGpmMetricsGet", question)


class PcieCounters:
    """Byte counters, because the call for the rate blocks 20 ms in each direction."""

    def __init__(
        self, nvml: Nvml, handle: Any, uuid: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._nvml = nvml
        self._handle = handle
        self._uuid = uuid
        self._clock = clock
        self._before: dict[str, tuple[float, int]] = {}

    def read(self, reading: GpuReading) -> None:
        ids = [getattr(self._nvml.module, name, None) for name in PCIE_FIELDS.values()]
        try:
            values = self._nvml.ask(
                self._uuid, "pcie", "nvmlDeviceGetFieldValues", self._handle, ids
            )
        except (DeviceLost, DriverGone):
            raise
        except Unreadable as error:
            reading.reasons.update(dict.fromkeys(PCIE_FIELDS, error.reason))
            return
        for field, value in zip(PCIE_FIELDS, values, strict=True):
            self._read_one(reading, field, value)

    def _read_one(self, reading: GpuReading, field: str, value: Any) -> None:
        if value.nvmlReturn != 0:
            reading.reasons[field] = explain(value.nvmlReturn, "no PCIe counter").reason
            return
        count = int(getattr(value.value, MEMBERS[value.valueType]))
        now, before = self._clock(), self._before.get(field)
        self._before[field] = (now, count)
        if before is None or now <= before[0]:
            reading.reasons[field] = FIRST
        elif count < before[1]:
            reading.reasons[field] = ANEW
        else:
            setattr(reading, field, round((count - before[1]) / (now - before[0]), 1))
