"""Readings of this machine: CPU, memory, disk, network, GPUs; null with a reason where none is.

Standard library, psutil and NVML only; never torch, so that no reader holds a CUDA context.
"""

from ml.hardware.gpus import GpuReader, count_gpus
from ml.hardware.host import HostReader, has_fast_bf16
from ml.hardware.processes import ProcessReader, ProcessReading
from ml.hardware.readings import DriverEvent, GpuProcess, GpuReading, HostReading, Tier

__all__ = [
    "DriverEvent",
    "GpuProcess",
    "GpuReader",
    "GpuReading",
    "HostReader",
    "HostReading",
    "ProcessReader",
    "ProcessReading",
    "Tier",
    "count_gpus",
    "has_fast_bf16",
]
