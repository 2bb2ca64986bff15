"""All NVIDIA GPUs of this machine: opens the driver, finds them, notices when they go."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import pynvml

from ml.hardware.nvidia_device import NvidiaDevice
from ml.hardware.nvidia_events import EventWatcher
from ml.hardware.nvml import DriverGone, Nvml, Unreadable, as_text
from ml.hardware.readings import DriverEvent, GpuProcess, GpuReading, Observer, Tier

logger = logging.getLogger(__name__)

RETRY_SECONDS = 60
PROCESSES = "gpu_processes"


class NvidiaReader:
    """`reason` says why there are no GPUs, after a look that found none."""

    def __init__(
        self,
        nvml: Any = pynvml,
        clock: Callable[[], float] = time.monotonic,
        *,
        watches_events: bool = False,
        observe: Observer | None = None,
    ) -> None:
        self._nvml = Nvml(nvml, observe)
        self._clock = clock
        self._watches_events = watches_events
        self._watcher: EventWatcher | None = None
        self._is_open = False
        self._retry_at = float("-inf")
        self._devices: list[NvidiaDevice] = []
        self._events: list[DriverEvent] = []
        self._absent: dict[int, str] = {}
        self.reason: str | None = None

    def count(self) -> int:
        if not self._open():
            return 0
        try:
            return int(self._nvml.call("nvmlDeviceGetCount"))
        except Unreadable as error:
            self._close(error)
            return 0

    def read(self, tier: Tier = Tier.SLOW) -> list[GpuReading]:
        if not self._open():
            return []
        try:
            if tier is Tier.SLOW or not self._devices:
                self._find_devices()
            return self._read(tier)
        except Unreadable as error:
            self._close(error)
            return []

    def processes(self) -> tuple[list[GpuProcess], dict[str, str]]:
        """Who uses the GPUs that `read` found, and why that is not known of some."""
        found: list[GpuProcess] = []
        reasons: dict[str, str] = {}
        for device in self._devices if self._is_open else []:
            try:
                found += device.processes()
            except DriverGone as error:
                self._close(error)
                return [], {PROCESSES: error.reason}
            except Unreadable as error:
                reasons[f"{PROCESSES}.{device.identity.uuid}"] = error.reason
        return found, reasons

    def events(self) -> list[DriverEvent]:
        """What happened since this was asked last."""
        happened, self._events = self._events, []
        return happened + (self._watcher.collect() if self._watcher else [])

    def close(self) -> None:
        if self._watcher is not None:
            self._watcher.stop()
        if self._is_open:
            self._is_open = False
            self._nvml.call("nvmlShutdown")

    def _open(self) -> bool:
        """Initialise NVML once; after a failure try again only once a minute."""
        if self._is_open or self._clock() < self._retry_at:
            return self._is_open
        try:
            self._nvml.call("nvmlInit")
        except Unreadable as error:
            self.reason = error.reason
            self._retry_at = self._clock() + RETRY_SECONDS
            return False
        if self.reason is not None:
            self._events.append(DriverEvent(kind="back", message="The NVIDIA driver answers."))
        self._is_open, self.reason = True, None
        self._nvml.forget_all()
        return True

    def _close(self, error: Unreadable) -> None:
        self._is_open = False
        self._retry_at = self._clock() + RETRY_SECONDS
        self._devices, self._watcher = [], None
        self.reason = error.reason
        self._events.append(DriverEvent(kind="lost", message=error.reason))

    def _find_devices(self) -> None:
        known = {device.identity.uuid: device for device in self._devices}
        by_index = {device.identity.index: device for device in self._devices}
        self._devices, self._absent = [], {}
        handles = []
        for index in range(int(self._nvml.call("nvmlDeviceGetCount"))):
            try:
                handle = self._nvml.call("nvmlDeviceGetHandleByIndex", index)
                self._devices.append(self._device(index, handle, known))
                handles.append(handle)
            except DriverGone:
                raise
            except Unreadable as error:
                if index in by_index:  # it was well before: it keeps its name
                    self._devices.append(by_index[index])
                else:
                    self._absent[index] = error.reason
        self._watch(handles)

    def _device(self, index: int, handle: Any, known: dict[str, NvidiaDevice]) -> NvidiaDevice:
        uuid = as_text(self._nvml.call("nvmlDeviceGetUUID", handle))
        device = known.get(uuid) or self._new_device(index, handle, uuid)
        if device.lost is None:
            device.find_instances()
        return device

    def _new_device(self, index: int, handle: Any, uuid: str) -> NvidiaDevice:
        identity = GpuReading(
            index=index,
            uuid=uuid,
            name=as_text(self._nvml.call("nvmlDeviceGetName", handle)),
            vendor="nvidia",
            driver=as_text(self._about_driver("nvmlSystemGetDriverVersion") or ""),
            cuda_version=_cuda(self._about_driver("nvmlSystemGetCudaDriverVersion_v2")),
        )
        return NvidiaDevice(self._nvml, handle, identity, self._clock)

    def _about_driver(self, name: str) -> Any:
        try:
            return self._nvml.call(name)
        except DriverGone:
            raise
        except Unreadable:
            return None

    def _read(self, tier: Tier) -> list[GpuReading]:
        readings: list[GpuReading] = []
        for device in self._devices:
            was_lost = device.lost
            readings += device.read(tier)
            self._note_change(device, was_lost)
        readings += [_unreadable(index, reason) for index, reason in self._absent.items()]
        return sorted(readings, key=lambda reading: reading.index)

    def _note_change(self, device: NvidiaDevice, was_lost: str | None) -> None:
        if (was_lost is None) == (device.lost is None):
            return
        kind = "back" if device.lost is None else "lost"
        message = device.lost or f"{device.identity.name} answers again."
        self._events.append(DriverEvent(kind=kind, uuid=device.identity.uuid, message=message))

    def _watch(self, handles: list[Any]) -> None:
        if not self._watches_events or not handles:
            return
        if self._watcher is None:
            self._watcher = EventWatcher(self._nvml)
            try:
                self._watcher.start(handles)
            except DriverGone:
                raise
            except Unreadable as error:
                logger.info("%s", error.reason)


def _unreadable(index: int, reason: str) -> GpuReading:
    return GpuReading(
        index=index, uuid="", name=f"GPU {index}", vendor="nvidia", reasons={"gpu": reason}
    )


def _cuda(version: int | None) -> str:
    """12040 means 12.4."""
    return "" if version is None else f"{version // 1000}.{version % 1000 // 10}"
