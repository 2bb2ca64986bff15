"""Who uses the machine: the drivers' processes joined to /proc, to sessions, to people."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from jobs.models import State
from ml.hardware import GpuProcess, ProcessReader, ProcessReading
from ml.rundir import RunDir
from monitoring.models import ProcessTable
from sessions.models import TrainingSession

TRAINING, SERVER, OUTSIDE = ORDER = ("training", "server", "outside")
NOT_VISIBLE = "This process id is not visible from here (a container?)."


@dataclass
class Look:
    """One look at the processes, before it is stored."""

    rows: list[dict[str, Any]]
    reasons: dict[str, str]
    holders: dict[str, dict[str, float]] = field(default_factory=dict)
    """GPU → session ("" for everyone else) → how busy they keep it."""

    sessions: set[str] = field(default_factory=set)
    """Sessions with a living process on this machine."""


class ProcessJoiner:
    def __init__(self, reader: ProcessReader | None = None) -> None:
        self._reader = reader or ProcessReader()

    def look(self, on_gpus: list[GpuProcess], reasons: dict[str, str]) -> Look:
        readings = self._reader.read()
        belongs = Belonging(readings, _lock_owners(), _server_roots(readings))
        ours = {pid for pid in readings if belongs.kind(pid) != OUTSIDE}
        idle = [(pid, None) for pid in ours - {process.pid for process in on_gpus}]
        pairs = [*((process.pid, process) for process in on_gpus), *idle]
        owners = _owners({belongs.session(pid) for pid, _ in pairs})
        rows = [_row(pid, process, readings.get(pid), belongs, owners) for pid, process in pairs]
        rows.sort(key=lambda row: (ORDER.index(row["kind"]), -(row["memory_bytes"] or 0)))
        sessions = {row["session"] for row in rows if row["session"]}
        return Look(rows, reasons, _holders(on_gpus, belongs, owners), sessions)


class Belonging:
    """Whose a process is: by the mark in its environment, else by its nearest known ancestor."""

    def __init__(
        self, readings: dict[int, ProcessReading], locks: dict[int, str], roots: set[int]
    ) -> None:
        self._readings = readings
        self._locks = locks
        self._roots = roots
        self._found: dict[int, tuple[str, str]] = {}

    def kind(self, pid: int) -> str:
        return self._find(pid)[0]

    def session(self, pid: int) -> str:
        return self._find(pid)[1]

    def _find(self, pid: int) -> tuple[str, str]:
        line = []
        while pid in self._readings and pid not in self._found and pid not in line:
            line.append(pid)
            if known := self._know(pid):
                self._found[pid] = known
                break
            pid = self._readings[pid].parent_pid
        answer = self._found.get(pid, (OUTSIDE, ""))
        self._found.update(dict.fromkeys(line, answer))
        return answer

    def _know(self, pid: int) -> tuple[str, str] | None:
        run = self._readings[pid].run or self._locks.get(pid, "")
        if run:
            return TRAINING, run
        return (SERVER, "") if pid in self._roots else None


def store_processes(look: Look) -> ProcessTable:
    table, _ = ProcessTable.objects.update_or_create(
        host=socket.gethostname(),
        defaults={
            "timestamp": timezone.now(),
            "processes": look.rows,
            "reasons": look.reasons,
        },
    )
    return table


def _row(
    pid: int,
    process: GpuProcess | None,
    reading: ProcessReading | None,
    belongs: Belonging,
    owners: dict[str, str | None],
) -> dict[str, Any]:
    session = belongs.session(pid)
    is_known = session in owners  # else it is a run of another server
    reasons = dict(process.reasons) if process else {}
    if reading is None:
        reasons["command"] = NOT_VISIBLE
    return {
        "pid": pid,
        "user": reading.user if reading else None,
        "command": reading.command if reading else None,
        "kind": belongs.kind(pid) if is_known or not session else OUTSIDE,
        "session": session if is_known else None,
        "owner": owners.get(session),
        "gpu_uuid": process.gpu_uuid if process else None,
        "gpu_memory_bytes": process.memory_bytes if process else None,
        "gpu_sm_percent": process.sm_percent if process else None,
        "cpu_percent": reading.cpu_percent if reading else None,
        "memory_bytes": reading.memory_bytes if reading else None,
        "started_at": _iso(reading.started_at) if reading else None,
        "reasons": reasons,
    }


def _holders(
    on_gpus: list[GpuProcess], belongs: Belonging, owners: dict[str, str | None]
) -> dict[str, dict[str, float]]:
    holders: dict[str, dict[str, float]] = {}
    for process in on_gpus:
        session = belongs.session(process.pid)
        session = session if session in owners else ""
        shares = holders.setdefault(process.gpu_uuid, {})
        shares[session] = shares.get(session, 0.0) + (process.sm_percent or 0.0)
    return holders


def _owners(sessions: set[str]) -> dict[str, str | None]:
    """session → name of its owner, for those that this server knows."""
    names = sessions - {""}
    if not names:
        return {}
    rows = TrainingSession.objects.filter(pk__in=names)
    return dict(rows.values_list("pk", "job__owner__username"))


def _lock_owners() -> dict[int, str]:
    """Process id → session, of the runs on this machine: also where /proc hides the mark."""
    running = TrainingSession.objects.filter(
        job__state=State.RUNNING, job__host=socket.gethostname()
    )
    found = {}
    for session in running.only("pk"):
        run = RunDir(session.run_path)
        owner = run.lock_owner() if run.is_locked() else None
        if owner is not None:
            found[int(owner["pid"])] = session.pk
    return found


def _server_roots(readings: dict[int, ProcessReading]) -> set[int]:
    """This process, and `serve` where it is above us: everything below is the server's."""
    own = os.getpid()
    serve = _recorded_pid(settings.VAR_DIR / "serve.pid")
    above = own
    while above in readings and above != serve:
        above = readings[above].parent_pid
    return {own, serve} if above == serve and serve else {own}


def _recorded_pid(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _iso(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    return moment.replace("+00:00", "Z")
