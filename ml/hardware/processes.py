"""All processes of this machine from /proc, cheaply: one small file each, the rest only once.

psutil's own scan takes 17 ms for 128 processes; this is done every few seconds, for ever.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MARKER = b"MLSERVER_RUN="  # what ml.launch gives to everything that belongs to a run
YOUNG_SECONDS = 10  # between fork and exec a process looks like its parent
STAT_PARENT, STAT_USER, STAT_SYSTEM, STAT_START, STAT_PAGES = 1, 11, 12, 19, 21
LONGEST_COMMAND = 100


@dataclass(frozen=True, kw_only=True)
class ProcessReading:
    pid: int
    parent_pid: int
    user: str | None
    command: str
    run: str
    """Name of the run in its environment; empty where there is none, or it is not ours to read."""

    cpu_percent: float | None
    """Of one core; None at the first look."""

    memory_bytes: int
    started_at: float
    """Unix seconds."""


@dataclass(frozen=True)
class Identity:
    """What does not change while a process lives."""

    user: str | None
    command: str
    run: str


class ProcessReader:
    def __init__(
        self, proc: Path = Path("/proc"), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._proc = proc
        self._clock = clock
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._known: dict[tuple[int, int], Identity] = {}
        self._cpu: dict[tuple[int, int], tuple[float, int]] = {}

    def read(self) -> dict[int, ProcessReading]:
        """By process id. Who ends while we look is left out."""
        booted_at = self._booted_at()
        found: dict[int, ProcessReading] = {}
        seen: set[tuple[int, int]] = set()
        for pid in self._pids():
            stat = self._stat(pid)
            if stat is None:
                continue
            key = (pid, int(stat[STAT_START]))
            seen.add(key)
            found[pid] = self._describe(key, stat, booted_at)
        self._known = {key: one for key, one in self._known.items() if key in seen}
        self._cpu = {key: one for key, one in self._cpu.items() if key in seen}
        return found

    def _describe(
        self, key: tuple[int, int], stat: list[bytes], booted_at: float
    ) -> ProcessReading:
        started_at = booted_at + key[1] / self._ticks
        identity = self._identity(key, started_at)
        return ProcessReading(
            pid=key[0],
            parent_pid=int(stat[STAT_PARENT]),
            user=identity.user,
            command=identity.command,
            run=identity.run,
            cpu_percent=self._cpu_percent(key, int(stat[STAT_USER]) + int(stat[STAT_SYSTEM])),
            memory_bytes=int(stat[STAT_PAGES]) * self._page,
            started_at=started_at,
        )

    def _identity(self, key: tuple[int, int], started_at: float) -> Identity:
        known = self._known.get(key)
        if known is None:
            folder = self._proc / str(key[0])
            known = Identity(_user(folder), _command(folder), _run(folder))
            if time.time() - started_at > YOUNG_SECONDS:
                self._known[key] = known
        return known

    def _cpu_percent(self, key: tuple[int, int], ticks: int) -> float | None:
        now, before = self._clock(), self._cpu.get(key)
        self._cpu[key] = (now, ticks)
        if before is None or now <= before[0]:
            return None
        return round(100 * (ticks - before[1]) / self._ticks / (now - before[0]), 1)

    def _pids(self) -> list[int]:
        names = os.listdir(self._proc)  # noqa: PTH208  (a Path for each costs more than the rest)
        return [int(name) for name in names if name.isdigit()]

    def _stat(self, pid: int) -> list[bytes] | None:
        """The fields after the name, which alone may contain blanks and parentheses."""
        try:
            with open(f"{self._proc}/{pid}/stat", "rb") as file:  # noqa: PTH123  (as above)
                return file.read().rpartition(b")")[2].split()
        except OSError:
            return None

    def _booted_at(self) -> float:
        for line in (self._proc / "stat").read_text().splitlines():
            if line.startswith("btime "):
                return float(line.split()[1])
        raise ValueError(f"{self._proc}/stat has no btime")


def short_command(arguments: list[str]) -> str:
    """The program and, of Python, what it runs. Never more: arguments may hold secrets."""
    if not arguments:
        return ""
    program = Path(arguments[0]).name
    parts = [program]
    if program.startswith("python"):
        parts += _python_target(arguments[1:])
    return " ".join(parts)[:LONGEST_COMMAND]


def _python_target(arguments: list[str]) -> list[str]:
    for place, argument in enumerate(arguments):
        if argument == "-m":
            return ["-m", *arguments[place + 1 : place + 2]]
        if argument == "-c":
            return ["-c"]
        if not argument.startswith("-"):
            name = Path(argument).name
            verb = arguments[place + 1 : place + 2] if name == "manage.py" else []
            return [name, *verb]
    return []


def _command(folder: Path) -> str:
    arguments = _bytes(folder / "cmdline").decode(errors="replace").split("\0")
    command = short_command([part for part in arguments if part])
    return command or _bytes(folder / "comm").decode(errors="replace").strip()


def _run(folder: Path) -> str:
    for entry in _bytes(folder / "environ").split(b"\0"):
        if entry.startswith(MARKER):
            return entry.removeprefix(MARKER).decode(errors="replace")
    return ""


def _user(folder: Path) -> str | None:
    try:
        uid = folder.stat().st_uid
    except OSError:
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a container need not know the users of its host
        return str(uid)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # gone meanwhile, or somebody else's
        return b""
