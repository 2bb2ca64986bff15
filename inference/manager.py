"""Makes what is loaded match what should be: starts, watches, replaces and ends workers.

`tick()` is one look; nothing in it waits. The workers die with this process, so after a restart
everything that is wanted is simply loaded again.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from accounts import audit
from inference import metering
from inference.memory import (
    Holder,
    choose_device,
    choose_leavers,
    estimate_bytes,
    find_budget,
)
from inference.models import LoadedModel, State
from inference.services import dismiss
from inference.workers import Report, WorkerProcess
from mlserver.lib.errors import NoSpace
from mlserver.supervisor import explain_exit

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 30.0
STOP_SECONDS = 3.0
SILENT_SECONDS = 60.0
"""A beat comes every second; loading may hold it back for long, but not as long as that."""
MOST_STUMBLES = 3
STEADY_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 30.0
NOTE_USE_SECONDS = 5.0
RESERVED_BYTES = 2 * 2**30
"""Libraries reserve more address space than they ever use."""


class Manager:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.workers: dict[int, WorkerProcess] = {}
        """Primary key of the row → its worker."""
        self._clock = clock
        self._budgets: dict[str, int] = {}
        self._started = 0

    def begin(self) -> None:
        """Of an earlier manager nothing runs any more; what it left is cleared away."""
        settings.SOCKETS_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in settings.SOCKETS_DIR.iterdir():
            path.unlink()
        LoadedModel.objects.filter(is_wanted=False).delete()
        LoadedModel.objects.exclude(state=State.FAILED).update(**_fresh())

    def tick(self) -> None:
        """One look at every worker and every row."""
        rows = {row.pk: row for row in LoadedModel.objects.select_related("version__model")}
        looked_at = dict(self.workers)
        for key, worker in looked_at.items():
            self._look_at(key, worker, rows.get(key))
        for key, row in rows.items():
            if key in looked_at:  # what was decided about it is not yet in this row
                continue
            if not row.is_wanted:
                LoadedModel.objects.filter(pk=key, is_wanted=False).delete()
            elif self._may_start(row):
                self._start(row, rows)

    def stop(self) -> None:
        """End all workers within seconds; their rows stay wanted."""
        for worker in self.workers.values():
            worker.drain(STOP_SECONDS)
        ends_at = time.monotonic() + STOP_SECONDS
        while time.monotonic() < ends_at and any(
            worker.exit_code() is None for worker in self.workers.values()
        ):
            time.sleep(0.02)
        for worker in self.workers.values():
            worker.bury()
        LoadedModel.objects.filter(pk__in=self.workers).update(**_fresh())
        self.workers.clear()

    # --- Workers --------------------------------------------------------------------------

    def _look_at(self, key: int, worker: WorkerProcess, row: LoadedModel | None) -> None:
        has_ended = worker.exit_code() is not None  # before its last words are read
        for report in worker.hear():
            self._note(key, report)
        if has_ended:
            self._bury(key, worker, row)
        elif row is None or not row.is_wanted or row.state == State.UNLOADING:
            self._drain(key, worker)
        elif worker.silent_seconds() > SILENT_SECONDS:
            logger.error("The worker of %s was silent for too long and is replaced", row)
            worker.kill()
        elif worker.is_ready:
            self._keep(row, worker)

    def _note(self, key: int, report: Report) -> None:
        match report["event"]:
            case "stage":
                _update(key, stage=report["stage"])
            case "ready":
                metering.operations.labels("load", "success").inc()
                metering.load_latency.observe(report["load_seconds"])
                _update(
                    key,
                    state=State.READY,
                    stage="",
                    signature=report["signature"],
                    memory_bytes=report["memory_bytes"],
                    load_seconds=report["load_seconds"],
                    last_used_at=timezone.now(),
                )

    def _keep(self, row: LoadedModel, worker: WorkerProcess) -> None:
        """Facts that change by themselves; whoever was unused for too long goes."""
        used_at = timezone.now() - timedelta(seconds=worker.idle_seconds())
        noted = row.last_used_at
        if noted is None or (used_at - noted).total_seconds() > NOTE_USE_SECONDS:
            _update(row.pk, last_used_at=used_at, memory_bytes=worker.memory_bytes)
        if row.stumbles and self._clock() - worker.started_at > STEADY_SECONDS:
            _update(row.pk, stumbles=0)
        limit = row.keep_alive_seconds
        if limit is not None and worker.idle_seconds() > limit:
            dismiss(row)
            audit.record(None, "model.unload", row.version, after={"unused_seconds": limit})

    def _drain(self, key: int, worker: WorkerProcess) -> None:
        if not worker.is_draining:
            _update(key, state=State.UNLOADING)
            worker.drain(DRAIN_SECONDS)
        worker.end_if_overdue()

    def _bury(self, key: int, worker: WorkerProcess, row: LoadedModel | None) -> None:
        """The worker has ended: as asked, refusing its model, or by accident."""
        code, words = worker.exit_code(), worker.read_last_words()
        assert code is not None
        worker.bury()
        del self.workers[key]
        if row is None:
            return
        if worker.is_draining:
            metering.operations.labels("unload", "success").inc()
            if row.is_wanted:
                _update(key, **_fresh())
        elif worker.ended is not None:
            self._fail(row, worker.ended["code"], worker.ended["message"])
        else:
            self._stumble(row, explain_exit("Its worker", code) + (f": {words}" if words else ""))

    def _stumble(self, row: LoadedModel, why: str) -> None:
        """It died: again in a moment, but not for ever."""
        stumbles = row.stumbles + 1
        logger.error("%s: %s", row, why)
        if stumbles >= MOST_STUMBLES and row.state != State.READY:
            self._fail(row, "worker_died", f"{why}. It was tried {stumbles} times.")
            return
        pause = min(LONGEST_PAUSE_SECONDS, 0.25 * 2 ** min(stumbles, 10))
        retry_at = timezone.now() + timedelta(seconds=pause)
        _update(row.pk, **{**_fresh(), "stumbles": stumbles, "retry_at": retry_at, "error": why})

    def _fail(self, row: LoadedModel, code: str, why: str) -> None:
        logger.warning("%s is not loaded: %s", row, why)
        metering.operations.labels("load", "error").inc()
        _update(row.pk, **{**_fresh(), "state": State.FAILED, "error_code": code, "error": why})
        audit.record(None, "model.load_failed", row.version, after={"error": why})

    # --- Starting -------------------------------------------------------------------------

    def _may_start(self, row: LoadedModel) -> bool:
        is_due = row.retry_at is None or row.retry_at <= timezone.now()
        return row.state != State.FAILED and is_due

    def _start(self, row: LoadedModel, rows: dict[int, LoadedModel]) -> None:
        device = choose_device(row.device)
        try:
            leavers = self._make_room(row, device, rows)
        except NoSpace as error:
            self._fail(row, error.code, error.detail)
            return
        if leavers:
            return  # once they have left
        self._started += 1
        name = f"{row.pk}-{os.getpid()}-{self._started}"
        worker = WorkerProcess(name, settings.SOCKETS_DIR, self._spec(row, device), self._clock)
        self.workers[row.pk] = worker
        _update(
            row.pk,
            state=State.LOADING,
            stage="start",
            device=device,
            pid=worker.pid,
            socket=worker.socket,
            error="",
            error_code="",
        )

    def _make_room(
        self, row: LoadedModel, device: str, rows: dict[int, LoadedModel]
    ) -> list[Holder]:
        """Who goes for this row, or is about to; empty when there is room now."""
        holders = [
            self._as_holder(key, worker, rows[key])
            for key, worker in self.workers.items()
            if key in rows and rows[key].device == device
        ]
        leaving = [holder for holder in holders if self.workers[holder.key].is_draining]
        staying = [holder for holder in holders if holder not in leaving]
        chosen = choose_leavers(
            staying,
            needed_bytes=estimate_bytes(row.version),
            budget_bytes=self._budget(device),
            most=settings.MAX_LOADED_MODELS,
        )
        for holder in chosen:
            dismiss(rows[holder.key])
            self._drain(holder.key, self.workers[holder.key])
            audit.record(
                None, "model.evict", rows[holder.key].version, after={"for": str(row.version)}
            )
        return chosen + leaving

    def _as_holder(self, key: int, worker: WorkerProcess, row: LoadedModel) -> Holder:
        return Holder(
            key=key,
            name=str(row),
            size_bytes=max(worker.memory_bytes, estimate_bytes(row.version))
            if not worker.is_ready
            else worker.memory_bytes,
            used_at=worker.used_at,
            may_go=worker.is_ready and not worker.is_busy and not row.is_pinned,
        )

    def _budget(self, device: str) -> int:
        """What is free is asked once, before anything of ours is in it."""
        if device not in self._budgets:
            self._budgets[device] = find_budget(device)
        return self._budgets[device]

    def _spec(self, row: LoadedModel, device: str) -> dict[str, Any]:
        folder: Path = row.version.folder
        return {
            "folder": str(folder),
            "files": row.version.files,
            "device": device,
            "threads": os.cpu_count() or 1,
            "optimization_level": row.optimization_level,
            "memory_bytes": self._budget(device) + RESERVED_BYTES if device == "cpu" else None,
        }


def _fresh() -> dict[str, Any]:
    """A row that waits for a worker."""
    return {
        "state": State.WAITING,
        "stage": "",
        "pid": None,
        "socket": "",
        "memory_bytes": None,
        "retry_at": None,
    }


def _update(key: int, **values: Any) -> None:
    LoadedModel.objects.filter(pk=key).update(**values)
