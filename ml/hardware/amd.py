"""Reads AMD GPUs from sysfs, without any library. Each file may be missing: null, with a reason."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml.hardware.readings import GpuReading, Observer

VENDOR = "0x1002"
NAMES = Path("usr/share/libdrm/amdgpu.ids")
ACTIVE_LEVEL = re.compile(r"^\d+:\s*(\d+)\s*Mhz\s*\*", re.MULTILINE | re.IGNORECASE)
PCIE_SPEEDS = {"2.5": 1, "5.0": 2, "8.0": 3, "16.0": 4, "32.0": 5, "64.0": 6}
NO_ENERGY = "AMD GPUs do not count energy here."


class AmdReader:
    """`root` is where /sys and /usr/share are looked for."""

    def __init__(self, root: Path = Path("/"), observe: Observer | None = None) -> None:
        self._root = root
        self._observe = observe
        self._names: dict[tuple[str, str], str] | None = None

    def count(self) -> int:
        return len(self.cards())

    def read(self, first_index: int = 0) -> list[GpuReading]:
        """Numbered from `first_index`, after the GPUs of another maker."""
        return [self._timed(first_index + n, path) for n, path in enumerate(self.cards())]

    def cards(self) -> list[Path]:
        """The device folder of each AMD card, by the number of the card."""
        cards = (self._root / "sys/class/drm").glob("card[0-9]*")
        numbered = sorted(
            (int(card.name[4:]), card / "device") for card in cards if card.name[4:].isdigit()
        )
        return [device for _, device in numbered if _text(device / "vendor") == VENDOR]

    def _timed(self, index: int, device: Path) -> GpuReading:
        started = time.perf_counter()
        gpu = read_card(index, device, self._name(device))
        if self._observe is not None:
            self._observe("amd card", time.perf_counter() - started, "")
        return gpu

    def _name(self, device: Path) -> str:
        told = _text(device / "product_name")
        if told:
            return told
        if self._names is None:
            self._names = read_names(self._root / NAMES)
        chip, revision = _hex(device / "device"), _hex(device / "revision")
        known = self._names.get((chip, revision))
        return known or f"AMD GPU {_text(device / 'device') or ''}".strip()


def uuid_of(device: Path) -> str:
    """The card's own number; an APU has none, there it is the place on the bus."""
    return _text(device / "unique_id") or bus_address(device)


def bus_address(device: Path) -> str:
    return device.resolve().name


def read_names(path: Path) -> dict[tuple[str, str], str]:
    """(device, revision) → name, from libdrm's list; empty where libdrm is not installed."""
    names = {}
    for line in (_text(path) or "").splitlines():
        parts = [part.strip() for part in line.split(",", 2)]
        if len(parts) == 3 and not line.startswith("#"):
            names[parts[0].lower(), parts[1].lower()] = parts[2]
    return names


def read_card(index: int, device: Path, name: str) -> GpuReading:
    gpu = GpuReading(index=index, uuid=uuid_of(device), name=name, vendor="amd", driver="amdgpu")
    sensors = next(iter(sorted((device / "hwmon").glob("hwmon*"))), device / "hwmon")
    is_apu = (sensors / "in1_input").exists()

    def take(field: str, *paths: Path, scale: float = 1.0) -> float | None:
        return _take(gpu, field, paths, lambda text: float(text) * scale)

    gpu.busy_percent = take("busy_percent", device / "gpu_busy_percent")
    gpu.memory_active_percent = take("memory_active_percent", device / "mem_busy_percent")
    gpu.memory_total_bytes = _memory(gpu, "memory_total_bytes", device, "total", is_apu)
    gpu.memory_used_bytes = _memory(gpu, "memory_used_bytes", device, "used", is_apu)
    gpu.temperature_celsius = take("temperature_celsius", sensors / "temp1_input", scale=1e-3)
    gpu.temperature_limit_celsius = take(
        "temperature_limit_celsius", sensors / "temp1_crit", scale=1e-3
    )
    gpu.power_watts = take(
        "power_watts", sensors / "power1_average", sensors / "power1_input", scale=1e-6
    )
    gpu.power_limit_watts = take("power_limit_watts", sensors / "power1_cap", scale=1e-6)
    gpu.clock_sm_mhz = _take(gpu, "clock_sm_mhz", (device / "pp_dpm_sclk",), _active_level)
    gpu.clock_memory_mhz = _take(gpu, "clock_memory_mhz", (device / "pp_dpm_mclk",), _active_level)
    gpu.reasons["energy_joules"] = NO_ENERGY
    _read_details(gpu, device, sensors)
    return gpu


def _read_details(gpu: GpuReading, device: Path, sensors: Path) -> None:
    found: dict[str, Any] = {
        "temperature_junction_celsius": _scaled(sensors / "temp2_input", 1e-3),
        "temperature_memory_celsius": _scaled(sensors / "temp3_input", 1e-3),
        "fan_rpm": _scaled(sensors / "fan1_input", 1),
        "pcie_width": _scaled(device / "current_link_width", 1),
        "pcie_width_max": _scaled(device / "max_link_width", 1),
        "pcie_generation": _generation(device / "current_link_speed"),
        "pcie_generation_max": _generation(device / "max_link_speed"),
        "vbios": _text(device / "vbios_version"),
    }
    gpu.details = {name: value for name, value in found.items() if value is not None}


def _memory(gpu: GpuReading, field: str, device: Path, what: str, is_apu: bool) -> int | None:
    """Memory on the card; only an APU also works in the host's memory (GTT)."""
    vram = _take(gpu, field, (device / f"mem_info_vram_{what}",), float)
    if vram is None:
        return None
    gtt = _text(device / f"mem_info_gtt_{what}") if is_apu else None
    return int(vram) + (int(gtt) if gtt and gtt.isdigit() else 0)


def _take(
    gpu: GpuReading, field: str, paths: tuple[Path, ...], read: Callable[[str], float]
) -> float | None:
    """The first of the files that can be read."""
    reason = ""
    for path in paths:
        try:
            return read(path.read_text().strip())
        except (OSError, ValueError) as error:
            told = getattr(error, "strerror", None) or error
            reason = reason or f"{path.name}: {told}"
    gpu.reasons[field] = reason
    return None


def _scaled(path: Path, scale: float) -> float | None:
    text = _text(path)
    try:
        return float(text) * scale if text else None
    except ValueError:
        return None


def _generation(path: Path) -> int | None:
    """'16.0 GT/s PCIe' is the fourth."""
    return PCIE_SPEEDS.get((_text(path) or "").split(" ")[0])


def _active_level(text: str) -> float:
    found = ACTIVE_LEVEL.search(text)
    if found is None:
        raise ValueError("no level is marked as active")
    return float(found[1])


def _hex(path: Path) -> str:
    return (_text(path) or "").lower().removeprefix("0x")


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
