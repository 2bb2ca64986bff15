"""Which processes use an NVIDIA GPU, how much memory, and how busy they keep it."""

from __future__ import annotations

from typing import Any

from ml.hardware.nvml import FUNCTION_NOT_FOUND, NOT_FOUND, DeviceLost, DriverGone, Nvml, Unreadable
from ml.hardware.readings import GpuProcess

NO_MEMORY = "The driver does not tell the memory of single processes here."
KINDS = ("Compute", "Graphics")


class ProcessList:
    """Keeps the time of the newest load sample: asked without it, the driver answers old ones."""

    def __init__(self, nvml: Nvml, handle: Any, uuid: str) -> None:
        self._nvml = nvml
        self._handle = handle
        self._uuid = uuid
        self._seen_until = 0

    def read(self) -> list[GpuProcess]:
        memory: dict[int, int | None] = {}
        for kind in KINDS:
            for process in self._running(kind):
                known = memory.get(process.pid)
                used = process.usedGpuMemory
                memory[process.pid] = max(filter(None, (known, used)), default=used)
        load, problem = self._load() if memory else ({}, "")
        return [self._describe(pid, used, load, problem) for pid, used in memory.items()]

    def _describe(
        self, pid: int, used: int | None, load: dict[int, float], problem: str
    ) -> GpuProcess:
        reasons = {"gpu_memory_bytes": NO_MEMORY} if used is None else {}
        if problem:
            reasons["gpu_sm_percent"] = problem
        return GpuProcess(
            pid=pid,
            gpu_uuid=self._uuid,
            memory_bytes=used,
            # The driver names only those that did something since the last look.
            sm_percent=None if problem else load.get(pid, 0.0),
            reasons=reasons,
        )

    def _running(self, kind: str) -> list[Any]:
        name = f"nvmlDeviceGet{kind}RunningProcesses"
        try:
            found: list[Any] = self._nvml.ask(self._uuid, name, name, self._handle)
        except Unreadable as error:
            if error.code != FUNCTION_NOT_FOUND:
                raise
            older = f"{name}_v2"  # a driver from before version 3 of the structure
            found = self._nvml.ask(self._uuid, older, older, self._handle)
        return found

    def _load(self) -> tuple[dict[int, float], str]:
        """Percent of the SMs by process, or why it is not known."""
        name = "nvmlDeviceGetProcessUtilization"
        try:
            samples = self._nvml.ask(self._uuid, name, name, self._handle, self._seen_until)
        except (DeviceLost, DriverGone):
            raise
        except Unreadable as error:
            return {}, "" if error.code == NOT_FOUND else error.reason
        newest = {}
        for sample in sorted(samples, key=lambda one: one.timeStamp):
            self._seen_until = max(self._seen_until, sample.timeStamp)
            newest[sample.pid] = float(sample.smUtil)
        return newest, ""
