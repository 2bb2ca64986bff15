"""All GPUs of this machine, whoever made them, in one list."""

from __future__ import annotations

import functools
import os

from ml.hardware.amd import AmdReader
from ml.hardware.amd_processes import AmdProcesses
from ml.hardware.nvidia import NvidiaReader
from ml.hardware.readings import DriverEvent, GpuProcess, GpuReading, Tier


class GpuReader:
    def __init__(
        self,
        nvidia: NvidiaReader | None = None,
        amd: AmdReader | None = None,
        amd_processes: AmdProcesses | None = None,
    ) -> None:
        self._nvidia = nvidia or NvidiaReader()
        self._amd = amd or AmdReader()
        self._amd_processes = amd_processes or AmdProcesses(self._amd)

    def count(self) -> int:
        return self._nvidia.count() + self._amd.count()

    def read(self, tier: Tier = Tier.SLOW) -> tuple[list[GpuReading], str | None]:
        """The GPUs, and where there are none: why."""
        gpus = self._nvidia.read(tier)
        gpus += self._amd.read(first_index=1 + max((gpu.index for gpu in gpus), default=-1))
        return gpus, None if gpus else self._nvidia.reason or "This machine has no GPU."

    def processes(self) -> tuple[list[GpuProcess], dict[str, str]]:
        """Who uses the GPUs that were read last, and why that is not known of some."""
        found, reasons = self._nvidia.processes()
        return found + self._amd_processes.read(), reasons

    def events(self) -> list[DriverEvent]:
        return self._nvidia.events()

    def close(self) -> None:
        self._nvidia.close()


def count_gpus() -> int:
    """How many GPUs a process started here may use."""
    count = _reader().count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return count if visible is None else min(count, _count_visible(visible))


def _count_visible(value: str) -> int:
    """CUDA stops reading at the first entry that is no device."""
    names = [name.strip() for name in value.split(",")]
    ends = [place for place, name in enumerate(names) if name in ("", "-1")]
    return ends[0] if ends else len(names)


@functools.cache
def _reader() -> GpuReader:
    return GpuReader()
