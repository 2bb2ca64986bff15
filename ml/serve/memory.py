"""What this process takes of the machine's memory: its own pages, and its share of common ones."""

from __future__ import annotations

from pathlib import Path

ROLLUP = Path("/proc/self/smaps_rollup")
KIB = 1024


class MemoryMeter:
    """Opened before the process locks itself in; afterwards it could not open the file."""

    def __init__(self) -> None:
        self._file = ROLLUP.open("rb", buffering=0)

    def read_bytes(self) -> int:
        """PSS; the kernel walks all mappings for it: milliseconds for a large process."""
        self._file.seek(0)
        for line in self._file.read(4096).splitlines():
            name, _, value = line.partition(b":")
            if name == b"Pss":
                return int(value.split()[0]) * KIB
        raise OSError(f"{ROLLUP} has no Pss")
