"""A few real steps of a training, to be measured: the real trainer in a run directory of its own.

It takes no seat, for it is no session and over in seconds; so it is refused while every seat
is taken, and ends as soon as somebody's training needs the seat that was free.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any

from django.conf import settings

from datasets.models import DatasetVersion
from jobs.services import count_free_seats
from ml.estimate import Steps
from ml.hardware import GpuReader, Tier
from ml.rundir import RunDir, read_events
from mlserver.lib.errors import Conflict, Invalid
from sessions.placement import lend_gpu
from sessions.preflight import learns_in_steps
from sessions.processes import end_trees, process_tree, start_launcher
from sessions.run_config import run_config

LIMIT_SECONDS = 60
WANTED_STEPS = 3  # the first one warms up: two are left to be measured
LOOK_SECONDS = 0.2
GRACE_SECONDS = 20.0  # its end says how much memory it took at most
LEFTOVER_SECONDS = 3600
PREFIX = ".dry-run-"
PARTS = ("data_seconds", "compute_seconds", "optimizer_seconds")


class Busy(Conflict):
    """Every seat is taken: two trainings on one GPU would measure each other."""

    code = "busy"
    retry_after_seconds = 30


def dry_run(config: dict[str, Any], version: DatasetVersion, steps: Steps) -> dict[str, Any]:
    """Train until WANTED_STEPS were told, then stop; nothing of it is kept.

    {steps, seconds_per_step, start_seconds, peak_memory_bytes, peak_gpu_memory_bytes,
    projected_seconds, error}. Raises Busy, and Invalid for a recipe without steps.
    """
    require_seat()
    if not learns_in_steps(config):
        raise Invalid(f"Recipe {config['recipe']} learns in one go: there are no steps to try.")
    with _run_directory() as run:
        limited = {**config, "max_duration_seconds": LIMIT_SECONDS}  # also if nobody stops it
        run.create(run_config("dry-run", limited, version))
        began = time.monotonic()
        launcher = start_launcher(run, 1, "dry-run", lend_gpu(config["device"]))
        try:
            watched = _watch(run, began)
        finally:
            run.write_control("cancel")
            end_trees([run], GRACE_SECONDS)
            launcher.wait(GRACE_SECONDS)
        return _tell(run, watched, steps)


def require_seat() -> None:
    """Raises Busy."""
    if count_free_seats("train") < 1:
        raise Busy(
            "Every seat is taken by a training, and a dry run beside it would measure both:"
            " try again when one has ended, or submit it to the queue."
        )


@contextmanager
def _run_directory() -> Iterator[RunDir]:
    for left in settings.RUNS_DIR.glob(f"{PREFIX}*"):  # by a server that was killed
        if time.time() - left.stat().st_mtime > LEFTOVER_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=PREFIX, dir=settings.RUNS_DIR)
    try:
        yield RunDir(Path(folder))
    finally:
        shutil.rmtree(folder)


def _watch(run: RunDir, began: float) -> dict[str, Any]:
    """Until enough steps were told, it ended, or its time is over."""
    steps: list[dict[str, Any]] = []
    offset, gpu_bytes, first_step_at, has_begun = 0, None, None, False
    reader = GpuReader()
    reader.read(Tier.FAST)
    try:
        while len(steps) < WANTED_STEPS and time.monotonic() - began < LIMIT_SECONDS:
            require_seat()
            is_locked = run.is_locked()
            events, offset = read_events(run.journal_path(1), offset)
            steps += [event for event in events if event.get("type") == "step"]
            if steps and first_step_at is None:
                first_step_at = time.monotonic() - began
            gpu_bytes = _largest(gpu_bytes, _gpu_memory(reader, run))
            if has_begun and not is_locked:
                break
            has_begun = has_begun or is_locked
            time.sleep(LOOK_SECONDS)
    finally:
        reader.close()
    return {"steps": steps, "first_step_seconds": first_step_at, "gpu_bytes": gpu_bytes}


def _gpu_memory(reader: GpuReader, run: RunDir) -> int | None:
    """Of all its processes, as the driver sees it; None without a GPU."""
    pids = {process.pid for process in process_tree(run)}
    used = [one.memory_bytes for one in reader.processes()[0] if one.pid in pids]
    return sum(one for one in used if one is not None) if used else None


def _largest(before: int | None, now: int | None) -> int | None:
    return now if before is None else max(before, now or 0)


def _tell(run: RunDir, watched: dict[str, Any], steps: Steps) -> dict[str, Any]:
    measured = watched["steps"][1:] or watched["steps"]
    seconds = mean(map(_seconds, measured)) if measured else None
    start = watched["first_step_seconds"]
    exit_ = run.read_exit(1) or {}
    return {
        "steps": measured[-1]["step"] if measured else 0,
        "seconds_per_step": seconds,
        "start_seconds": start,
        "peak_memory_bytes": exit_.get("max_rss_bytes"),
        "peak_gpu_memory_bytes": watched["gpu_bytes"],
        "projected_seconds": None if seconds is None else start + steps.steps * seconds,
        "error": None if measured else _why_not(run),
    }


def _seconds(step: dict[str, Any]) -> float:
    return sum(step.get(part) or 0.0 for part in PARTS)


def _why_not(run: RunDir) -> dict[str, str]:
    """What the trainer said, or its launcher, or that its time was over."""
    error = (run.read_result(1) or {}).get("error")
    if error:
        return {"code": error["code"], "message": error["message"]}
    ended = run.read_exit(1)
    if ended and ended["reason"] != "ended":
        return {"code": ended["reason"], "message": ended["sentence"]}
    sentence = f"No step was done within {LIMIT_SECONDS} seconds."
    return {"code": "timed_out", "message": sentence}
