"""Supervises one attempt of one training session in short slices.

The trainer lives in its own process and speaks through its run directory, so a
supervisor may die at any moment: the next one finds the lock held and goes on reading.
"""

from __future__ import annotations

import math
import subprocess
import time
from pathlib import Path

from django.conf import settings

from jobs import services as jobs
from jobs.leases import Lease
from jobs.models import Job, State, Wanted
from jobs.slices import look_until_done
from ml import failpoints
from ml.exits import EXIT_CODES
from ml.rundir import RunDir
from mlserver.lib.errors import AppError
from sessions.bases import is_from_hub
from sessions.endings import NO_SPACE_SECONDS, finish, settle_failure
from sessions.hangs import end_if_hung
from sessions.ingest import ingest
from sessions.models import TrainingSession
from sessions.placement import place
from sessions.processes import (
    LAUNCHER_LOG,
    ask_to_end,
    end_trees,
    start_launcher,
    start_warm,
)
from sessions.run_config import run_config
from sessions.services import TOO_LITTLE_SPACE, has_space

CANCEL_PATIENCE_SECONDS = 1.5
READ_SECONDS = 1.0  # for so long one look reads what a trainer writes
ABANDON_SECONDS = 4.0  # a launcher gives its trainer three

# Kept so that a dead one is reaped, and a living one is not started twice before its lock.
_launchers: dict[tuple[str, int], subprocess.Popen[bytes]] = {}


def supervise_slice(lease: Lease) -> bool:
    """Look after the session for SLICE_SECONDS. True: there is more to do."""
    session = TrainingSession.objects.select_related("job", "dataset_version__dataset").get(
        pk=lease.job_id
    )
    run = RunDir(session.run_path)
    _reap_launchers(lease)

    def look(lease: Lease) -> bool:
        session.job.refresh_from_db(fields=["wanted", "yielding"])
        return _advance(session, run, lease)

    return look_until_done(lease, look)


def abandon(job: Job) -> None:
    """End the processes of a session that cannot be looked after; its GPU must come back."""
    run = RunDir(settings.RUNS_DIR / job.pk)
    ask_to_end(run)
    end_trees([run], ABANDON_SECONDS)


def _reap_launchers(lease: Lease) -> None:
    """Collect the dead that this worker started; another worker may have seen them end."""
    for key, launcher in list(_launchers.items()):
        if launcher.poll() is not None and key != (lease.job_id, lease.attempt):
            del _launchers[key]


def _advance(session: TrainingSession, run: RunDir, lease: Lease) -> bool:
    """One look: launch what is not there, pass on what is wanted, read, see whether it ended."""
    # In this order: an attempt whose folder is there and whose lock is free has ended.
    has_begun = run.attempt_path(lease.attempt).is_dir()
    is_locked = run.is_locked()
    if not has_begun and not is_locked:
        return _give_up_before_launch(session) or not _launch(session, run, lease)
    if not has_begun:
        _end_stale(run, lease)
        return False
    if is_locked:
        _pass_on(session.job, run)
        end_if_hung(session, run, lease)
    # A trainer that writes as fast as this reads must not keep its own wishes waiting.
    ends_at = time.monotonic() + (READ_SECONDS if is_locked else math.inf)
    while ingest(session, run, lease) and time.monotonic() < ends_at:
        pass
    if not is_locked:
        finish(session, run, lease)
        failpoints.hit("supervisor.after_end")
    return not is_locked


def _end_stale(run: RunDir, lease: Lease) -> None:
    """A supervisor that slept may have launched an attempt that is over; its trainer has no say."""
    owner = run.lock_owner()
    if owner is not None and owner["attempt"] < lease.attempt:
        ask_to_end(run)


def _give_up_before_launch(session: TrainingSession) -> bool:
    """A wish that came before the trainer was there needs no trainer."""
    ends = {Wanted.CANCEL: State.CANCELLED, Wanted.PAUSE: State.PAUSED}
    state = ends.get(Wanted(session.job.wanted))
    return state is not None and jobs.end_job(session.job, state, sentence=f"{state.label}.")


def _launch(session: TrainingSession, run: RunDir, lease: Lease) -> bool:
    """Start the launcher, once an attempt; False when it ended before it could begin."""
    previous = _launchers.pop((session.pk, lease.attempt), None)
    if previous is not None and previous.poll() is None:
        _launchers[session.pk, lease.attempt] = previous
        return True
    if previous is not None and previous.returncode != EXIT_CODES["already_running"]:
        return _launch_failed(session, run, lease, previous.returncode)
    if not has_space():
        sentence = f"{TOO_LITTLE_SPACE} It goes on by itself when there is more."
        delay = NO_SPACE_SECONDS
        jobs.requeue_job(session.job, code="disk_full", sentence=sentence, delay_seconds=delay)
        return False
    if not run.config_path.exists():
        try:
            run.create(run_config(session.pk, session.config, session.dataset_version))
        except AppError as error:  # its base model was deleted while it waited
            jobs.end_job(session.job, State.FAILED, code=error.code, sentence=error.detail)
            return False
    run.write_control("run")
    _start_launcher(session, run, lease)
    lease.write(phase="starting")
    return True


def _start_launcher(session: TrainingSession, run: RunDir, lease: Lease) -> None:
    failpoints.hit("supervisor.before_launch")
    lease.renew()
    environment = place(session)
    if settings.HF_TOKEN and is_from_hub(session.base_model):
        environment["HF_TOKEN"] = settings.HF_TOKEN
    how = (run, lease.attempt, session.pk, environment)
    if not (_can_be_warm(session) and start_warm(*how)):
        _launchers[session.pk, lease.attempt] = start_launcher(*how)
    failpoints.hit("supervisor.after_launch")


def _can_be_warm(session: TrainingSession) -> bool:
    """torchrun's processes are always new ones."""
    return settings.WARM_TRAINER and session.config.get("num_processes", 1) == 1


def _launch_failed(session: TrainingSession, run: RunDir, lease: Lease, code: int) -> bool:
    if run.is_locked() or run.attempt_path(lease.attempt).is_dir():
        return True  # it has begun since we looked
    sentence = f"The launcher ended with exit code {code} before it began; see {LAUNCHER_LOG}."
    settle_failure(session, session.job, run, lease, "lost", sentence)
    return False


def _pass_on(job: Job, run: RunDir) -> None:
    """Tell the trainer; one that is deep in a long step and does not hear a cancel is ended."""
    wanted = Wanted.PAUSE if job.yielding and job.wanted == Wanted.RUN else job.wanted
    if run.read_control() != wanted:
        run.write_control(wanted)
    elif wanted == Wanted.CANCEL and _seconds_since(run.control_path) > CANCEL_PATIENCE_SECONDS:
        ask_to_end(run)


def _seconds_since(path: Path) -> float:
    """How long ago the file was written."""
    return time.time() - path.stat().st_mtime
