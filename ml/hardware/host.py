"""Reads CPU, memory, pressure, disk and network of this machine through psutil and /proc."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from ml.hardware.readings import HostReading, Observer

SOME = re.compile(r"^some avg10=(\d+(?:\.\d+)?)", re.MULTILINE)
FIRST = "A rate needs two readings; this is the first."

FAST_BF16 = re.compile(r"^(flags|Features)\s*:.*\b(avx512_bf16|amx_bf16|bf16)\b", re.MULTILINE)


def has_fast_bf16(proc: Path = Path("/proc")) -> bool:
    """Whether the CPU multiplies bfloat16 itself; a network then learns about twice as fast."""
    try:
        return FAST_BF16.search((proc / "cpuinfo").read_text()) is not None
    except OSError:
        return False


class HostReader:
    """Keeps the counters of the last look, because rates and CPU load are differences.

    `disk_path` says which file system to measure: the one that holds the data.
    """

    def __init__(
        self,
        disk_path: Path,
        *,
        system: Any = psutil,
        proc: Path = Path("/proc"),
        clock: Callable[[], float] = time.monotonic,
        observe: Observer | None = None,
    ) -> None:
        self._disk_path = disk_path
        self._system = system
        self._proc = proc
        self._observe = observe
        self._clock = clock
        self._counters: dict[str, tuple[float, int]] = {}
        # Without this the first look would answer the load since the machine started.
        self._system.cpu_percent(percpu=True)

    def read(self) -> HostReading:
        reading = HostReading()
        for group, take in (
            ("cpu", self._read_cpu),
            ("load", self._read_load),
            ("pressure", self._read_pressure),
            ("memory", self._read_memory),
            ("swap", self._read_swap),
            ("disk", self._read_disk),
            ("disk_io", self._read_disk_io),
            ("network", self._read_network),
        ):
            started = time.perf_counter()
            try:
                take(reading)
            # AttributeError: this system lacks the call; the others: /proc is closed to us.
            except (OSError, psutil.Error, RuntimeError, AttributeError) as error:
                reading.reasons[group] = f"{type(error).__name__}: {error}"
            if self._observe is not None:
                spent = time.perf_counter() - started
                self._observe(f"host {group}", spent, reading.reasons.get(group, ""))
        return reading

    def _read_cpu(self, reading: HostReading) -> None:
        reading.cpu_per_core = [float(core) for core in self._system.cpu_percent(percpu=True)]
        if reading.cpu_per_core:
            mean = sum(reading.cpu_per_core) / len(reading.cpu_per_core)
            reading.cpu_percent = round(mean, 1)

    def _read_load(self, reading: HostReading) -> None:
        loads = (round(load, 2) for load in os.getloadavg())
        reading.load_1m, reading.load_5m, reading.load_15m = loads

    def _read_pressure(self, reading: HostReading) -> None:
        for name in ("cpu", "memory", "io"):
            try:
                text = (self._proc / "pressure" / name).read_text()
            except FileNotFoundError:
                reading.reasons["pressure"] = "This kernel does not measure pressure (PSI)."
                return
            if found := SOME.search(text):
                setattr(reading, f"pressure_{name}_percent", float(found[1]))

    def _read_memory(self, reading: HostReading) -> None:
        memory = self._system.virtual_memory()
        reading.memory_total_bytes = memory.total
        reading.memory_available_bytes = memory.available
        # Not psutil's `used`: caches that can be given back are no shortage.
        reading.memory_used_bytes = memory.total - memory.available

    def _read_swap(self, reading: HostReading) -> None:
        swap = self._system.swap_memory()
        reading.swap_used_bytes, reading.swap_total_bytes = swap.used, swap.total

    def _read_disk(self, reading: HostReading) -> None:
        usage = self._system.disk_usage(str(self._disk_path))
        reading.disk_total_bytes, reading.disk_free_bytes = usage.total, usage.free

    def _read_disk_io(self, reading: HostReading) -> None:
        counters = self._system.disk_io_counters()
        if counters is None:
            reading.reasons["disk_io"] = "This system counts no disk traffic (a container?)."
            return
        read = self._rate(reading, "disk_io", "read", counters.read_bytes)
        written = self._rate(reading, "disk_io", "written", counters.write_bytes)
        reading.disk_read_bytes_per_second, reading.disk_write_bytes_per_second = read, written

    def _read_network(self, reading: HostReading) -> None:
        counters = self._system.net_io_counters()
        if counters is None:
            reading.reasons["network"] = "This machine has no network interface."
            return
        received = self._rate(reading, "network", "received", counters.bytes_recv)
        sent = self._rate(reading, "network", "sent", counters.bytes_sent)
        reading.network_received_bytes_per_second, reading.network_sent_bytes_per_second = (
            received,
            sent,
        )

    def _rate(self, reading: HostReading, group: str, name: str, count: int) -> float | None:
        now = self._clock()
        before = self._counters.get(name)
        self._counters[name] = (now, count)
        if before is None:
            reading.reasons[group] = FIRST
            return None
        elapsed, difference = now - before[0], count - before[1]
        if elapsed <= 0 or difference < 0:  # a device went away, or the counter began anew
            reading.reasons[group] = "The counter began anew."
            return None
        return round(difference / elapsed, 1)
