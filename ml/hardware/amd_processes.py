"""Which processes use an AMD GPU: the fdinfo of their open devices, and ROCm's own accounts."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ml.hardware.amd import AmdReader, bus_address, uuid_of
from ml.hardware.readings import GpuProcess

FIRST = "A load needs two readings; this is the first."
NO_LOAD = "ROCm's accounts tell memory only."
DEVICES = ("/dev/dri/renderD", "/dev/dri/card", "/dev/kfd")
UNITS = {"": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}
PAIR = re.compile(r"^([\w-]+):[ \t]*(\S+)(?:[ \t]+(\w+))?", re.MULTILINE)
MEMORY_KEYS = ("drm-resident-vram", "drm-memory-vram", "drm-total-vram")
ENGINE_KEYS = ("drm-engine-gfx", "drm-engine-compute")


@dataclass
class Use:
    memory_bytes: int = 0
    busy_nanoseconds: int | None = None


class AmdProcesses:
    """Keeps the busy time of each process, because its load is a difference."""

    def __init__(
        self,
        cards: AmdReader,
        root: Path = Path("/"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cards = cards
        self._root = root
        self._clock = clock
        self._before: dict[tuple[int, str], tuple[float, int]] = {}

    def read(self) -> list[GpuProcess]:
        uuids = {bus_address(card): uuid_of(card) for card in self._cards.cards()}
        if not uuids:
            return []
        uses = self._drm_uses(uuids)
        for key, memory in self._kfd_uses(uuids).items():
            # Compute goes past DRM and may be missing there; both may tell the same memory.
            use = uses.setdefault(key, Use())
            use.memory_bytes = max(use.memory_bytes, memory)
        found = [self._describe(pid, uuid, use) for (pid, uuid), use in uses.items()]
        self._before = {key: old for key, old in self._before.items() if key in uses}
        return found

    def _describe(self, pid: int, uuid: str, use: Use) -> GpuProcess:
        percent, problem = self._load((pid, uuid), use.busy_nanoseconds)
        return GpuProcess(
            pid=pid,
            gpu_uuid=uuid,
            memory_bytes=use.memory_bytes,
            sm_percent=percent,
            reasons={"gpu_sm_percent": problem} if problem else {},
        )

    def _load(self, key: tuple[int, str], busy: int | None) -> tuple[float | None, str]:
        if busy is None:
            return None, NO_LOAD
        now, before = self._clock(), self._before.get(key)
        self._before[key] = (now, busy)
        if before is None or now <= before[0] or busy < before[1]:
            return None, FIRST
        return min(100.0, round((busy - before[1]) / (now - before[0]) / 1e7, 1)), ""

    def _drm_uses(self, uuids: dict[str, str]) -> dict[tuple[int, str], Use]:
        uses: dict[tuple[int, str], Use] = {}
        seen: set[tuple[str, str]] = set()
        for pid, info in self._fdinfos():
            place, client = info.get("drm-pdev", ""), info.get("drm-client-id", "")
            # One client may be open through several descriptors, also of several processes.
            if place not in uuids or (place, client) in seen:
                continue
            seen.add((place, client))
            use = uses.setdefault((pid, uuids[place]), Use())
            use.memory_bytes += next((int(info[key]) for key in MEMORY_KEYS if key in info), 0)
            busy = sum(int(info.get(key, 0)) for key in ENGINE_KEYS)
            use.busy_nanoseconds = (use.busy_nanoseconds or 0) + busy
        return uses

    def _fdinfos(self) -> Iterator[tuple[int, dict[str, str]]]:
        for folder in (self._root / "proc").glob("[0-9]*"):
            for descriptor in _entries(folder / "fd"):
                if _link(descriptor).startswith(DEVICES):
                    info = _parse(folder / "fdinfo" / descriptor.name)
                    if info:
                        yield int(folder.name), info

    def _kfd_uses(self, uuids: dict[str, str]) -> dict[tuple[int, str], int]:
        """Bytes of VRAM by process and GPU, from /sys/class/kfd/kfd/proc/<pid>/vram_<gpu id>."""
        gpus = self._kfd_gpus(uuids)
        uses = {}
        for path in (self._root / "sys/class/kfd/kfd/proc").glob("[0-9]*/vram_*"):
            uuid = gpus.get(path.name.removeprefix("vram_"))
            text = _text(path)
            if uuid and text.isdigit():
                uses[int(path.parent.name), uuid] = int(text)
        return uses

    def _kfd_gpus(self, uuids: dict[str, str]) -> dict[str, str]:
        """ROCm's number of a GPU → our UUID, through its place on the bus."""
        gpus = {}
        for node in (self._root / "sys/class/kfd/kfd/topology/nodes").glob("[0-9]*"):
            found = dict(line.split(" ", 1) for line in _text(node / "properties").splitlines())
            location = int(found.get("location_id", "0") or 0)
            domain = int(found.get("domain", "0") or 0)
            place = f"{domain:04x}:{location >> 8:02x}:{location >> 3 & 31:02x}.{location & 7}"
            if place in uuids:
                gpus[_text(node / "gpu_id")] = uuids[place]
        return gpus


def _parse(path: Path) -> dict[str, str]:
    info = {}
    for key, value, unit in PAIR.findall(_text(path)):
        scale = UNITS.get(unit.lower())
        info[key] = str(int(value) * scale) if scale and value.isdigit() else value
    return info


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # gone meanwhile, or somebody else's
        return []


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
