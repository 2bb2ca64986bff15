"""Ends a trainer that makes no progress; its stack goes into stderr.log, then it is tried again.

A trainer gives a sign of life at every batch (RunDir.beat).
"""

from __future__ import annotations

import signal
import statistics
import time
from contextlib import suppress

import psutil
from django.conf import settings
from django.db import transaction

from jobs import services as jobs
from jobs.leases import Lease
from jobs.models import LogLine
from ml.rundir import RunDir
from sessions.models import TrainingSession
from sessions.processes import process_tree

STEPS = 10
RECENT_POINTS = 20
SLOW = 10  # loading and saving may take that many times HANG_SECONDS
DUMP_SECONDS = 2.0


def end_if_hung(session: TrainingSession, run: RunDir, lease: Lease) -> None:
    """Kill a trainer without progress for max(10 median steps, HANG_SECONDS). Raises LeaseLost."""
    begun = run.last_beat()
    since = begun if begun is not None else run.attempt_path(lease.attempt).stat().st_mtime
    silent = time.time() - since
    is_slow = begun is None or run.is_saving()
    if silent <= settings.HANG_SECONDS * (SLOW if is_slow else 1):
        return
    if silent <= STEPS * median_step_seconds(session):
        return
    if session.summary.get("hung", {}).get("attempt") != lease.attempt:
        _tell(session, lease, silent)
        _dump_stacks(run)
    for process in process_tree(run)[:-1]:  # the launcher stays, to say how it ended
        with suppress(psutil.NoSuchProcess):
            process.kill()


def median_step_seconds(session: TrainingSession) -> float:
    """Of the newest steps; 0 before the first."""
    points = session.metric_points.filter(key="compute_seconds")
    newest = points.order_by("-step").values_list("value", flat=True)[:RECENT_POINTS]
    values = [value for value in newest if value is not None]
    return statistics.median(values) if values else 0.0


def _tell(session: TrainingSession, lease: Lease, silent: float) -> None:
    sentence = (
        f"No progress for {silent:.0f} seconds: it was ended."
        f" attempt-{lease.attempt}/stderr.log shows where it hung, if it could still tell."
    )
    with transaction.atomic():
        lease.write()
        session.summary["hung"] = {"attempt": lease.attempt, "sentence": sentence}
        session.save(update_fields=["summary"])
        jobs.log(session.pk, sentence, LogLine.Level.WARNING)


def _dump_stacks(run: RunDir) -> None:
    """Ask for the Python stack of every thread, and leave the time to write it."""
    processes = process_tree(run)[:-1]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGUSR1)
    psutil.wait_procs(processes, timeout=DUMP_SECONDS)
