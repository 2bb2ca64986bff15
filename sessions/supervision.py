"""Supervises one attempt of one training session in short slices.

The trainer lives in its own process and speaks through its run directory, so a
supervisor may die at any moment: the next one finds the lock held and goes on reading.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from django.conf import settings

from jobs import services as jobs
from jobs.leases import Lease, LeaseLost
from jobs.models import Job, State, Wanted
from ml.rundir import RunDir, read_json
from mlserver.lib.errors import AppError
from mlserver.version import VERSION
from models_registry.models import ModelVersion
from models_registry.services import register_version
from sessions.files import record_artifacts
from sessions.ingest import ingest
from sessions.models import TrainingSession
from sessions.placement import place
from sessions.processes import ask_to_end, end_trees
from sessions.tracebacks import log_traceback

TAIL_SECONDS = 0.25
LAUNCHER_LOG = "launcher.log"
CANCEL_PATIENCE_SECONDS = 1.5
ABANDON_SECONDS = 4.0  # a launcher gives its trainer three
NOT_MEASURED = "The sampler did not see it while it ran."
BACK_OFF_SECONDS = (0, 10, 60)
PASSED_ON = ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "TMPDIR")

# Kept so that a dead one is reaped, and a living one is not started twice before its lock.
_launchers: dict[tuple[str, int], subprocess.Popen[bytes]] = {}


def supervise_slice(lease: Lease) -> bool:
    """Look after the session for SLICE_SECONDS. True: there is more to do."""
    session = TrainingSession.objects.select_related("job", "dataset_version__dataset").get(
        pk=lease.job_id
    )
    run = RunDir(session.run_path)
    ends_at = time.monotonic() + settings.SLICE_SECONDS
    _reap_launchers(lease)
    try:
        while True:
            ended = _advance(session, run, lease)
            if ended or time.monotonic() >= ends_at:
                return not ended
            time.sleep(TAIL_SECONDS)
            lease.renew()
            session.job.refresh_from_db(fields=["wanted"])
    except LeaseLost:
        return False  # whoever has it now sends the next message


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
    if is_locked:
        _pass_on(session.job.wanted, run)
    while ingest(session, run, lease):
        pass
    if has_begun and not is_locked:
        _finish(session, run, lease)
        return True
    return False


def _give_up_before_launch(session: TrainingSession) -> bool:
    """A wish that came before the trainer was there needs no trainer."""
    ends = {Wanted.CANCEL: State.CANCELLED, Wanted.PAUSE: State.PAUSED}
    state = ends.get(Wanted(session.job.wanted))
    return state is not None and jobs.end_job(session.job, state, sentence=f"{state.label}.")


def _launch(session: TrainingSession, run: RunDir, lease: Lease) -> bool:
    """Start the launcher, once an attempt; False when it ended before it could begin."""
    previous = _launchers.get((session.pk, lease.attempt))
    if previous is not None:
        return previous.poll() is None or _launch_failed(session, run, previous.returncode)
    if not run.config_path.exists():
        run.create(_run_config(session))
    run.write_control("run")
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": os.environ.get("HOME", "/"),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "PYTHONSAFEPATH": "1",
        "MLSERVER_RUN": session.pk,
        **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
        **place(session),
    }
    # A session of its own: neither a signal to the worker's group nor the worker's end
    # reaches a training.
    command = [sys.executable, "-P", "-m", "ml.launch", str(run.path)]
    with (run.path / LAUNCHER_LOG).open("ab") as log:
        _launchers[session.pk, lease.attempt] = subprocess.Popen(
            [*command, "--attempt", str(lease.attempt)],
            cwd=run.path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    lease.write(phase="starting")
    return True


def _launch_failed(session: TrainingSession, run: RunDir, code: int) -> bool:
    if run.is_locked() or run.attempt_path(session.job.attempt).is_dir():
        return True  # it came second, or has begun since we looked
    sentence = f"The launcher ended with exit code {code} before it began; see {LAUNCHER_LOG}."
    jobs.end_job(session.job, State.FAILED, code="crashed", sentence=sentence)
    return False


def _run_config(session: TrainingSession) -> dict[str, object]:
    version = session.dataset_version
    if version is None:
        raise RuntimeError(f"{session.pk} has no dataset version")
    reference = {
        "path": str(version.folder),
        "format": version.format,
        "target": session.config.get("target") or version.schema.get("target"),
        "name": version.dataset.name,
        "version": version.number,
    }
    return {**session.config, "session": session.pk, "dataset": reference}


def _pass_on(wanted: str, run: RunDir) -> None:
    """Tell the trainer; one that is deep in a long step and does not hear a cancel is ended."""
    if run.read_control() != wanted:
        run.write_control(wanted)
    elif wanted == Wanted.CANCEL and _seconds_since(run.control_path) > CANCEL_PATIENCE_SECONDS:
        ask_to_end(run)


def _seconds_since(path: Path) -> float:
    """How long ago the file was written."""
    return time.time() - path.stat().st_mtime


def _finish(session: TrainingSession, run: RunDir, lease: Lease) -> None:
    """The trainer is gone: say how it ended. Every branch is one conditional move."""
    job = Job.objects.get(pk=session.pk)
    if job.attempt != lease.attempt:
        raise LeaseLost(session.pk)
    record_artifacts(session)
    result = run.read_result(lease.attempt) or {}
    status = result.get("status")
    if status == "completed":
        _complete(session, job, run, result)
    elif status == "failed":
        log_traceback(session.pk, run, lease.attempt)
        error = result.get("error") or {}
        jobs.end_job(
            job,
            State.FAILED,
            code=error.get("code", "crashed"),
            sentence=error.get("message", "The trainer failed without a word."),
            result=result,
        )
    elif job.wanted == Wanted.CANCEL:
        jobs.end_job(job, State.CANCELLED, sentence="Cancelled.")
    elif job.wanted == Wanted.PAUSE:
        jobs.end_job(job, State.PAUSED, sentence="Paused; resume goes on from the last checkpoint.")
    elif status in ("paused", "cancelled"):
        # Nobody wanted that any more, or the server was about to stop.
        jobs.requeue_job(
            job, code="shutdown", sentence="Interrupted; it goes on from its checkpoint."
        )
    else:
        _retry_or_fail(session, job, run, lease)


def _complete(session: TrainingSession, job: Job, run: RunDir, result: dict[str, Any]) -> None:
    try:
        session.produced = _register_model(session, job, run, result)
    except AppError as error:
        jobs.end_job(job, State.FAILED, code=error.code, sentence=error.detail, result=result)
        return
    session.save(update_fields=["produced"])
    jobs.end_job(
        job,
        State.COMPLETED,
        sentence=f"Completed: {session.produced}.",
        result=result,
        progress=100,
    )


def _register_model(
    session: TrainingSession, job: Job, run: RunDir, result: dict[str, Any]
) -> ModelVersion:
    """The finished model folder becomes a version; a second call finds the first one's."""
    described = read_json(run.model_path / "config.json") or {}
    version = session.dataset_version
    session.refresh_from_db(fields=["energy_joules", "energy_reason"])  # the sampler counts
    return register_version(
        name=session.name or default_model_name(session),
        folder=run.model_path,
        owner=job.owner,
        framework="pytorch",
        task=described.get("task", "classification"),
        metrics=result.get("metrics", {}),
        lineage={
            "session": session.pk,
            "dataset": str(version),
            "dataset_sha256": version.sha256 if version else None,
            "recipe": session.recipe,
            "seed": session.config.get("seed"),
            "mlserver": VERSION,
            "environment": session.summary.get("environment", {}),
            "duration_seconds": result.get("duration_seconds"),
            "energy_joules": session.energy_joules,
            "energy_reason": session.energy_reason or NOT_MEASURED
            if session.energy_joules is None
            else None,
        },
        signature=described.get("signature"),
    )


def default_model_name(session: TrainingSession) -> str:
    version = session.dataset_version
    return f"{version.dataset.name if version else 'model'}-{session.config['architecture']}"


def _retry_or_fail(session: TrainingSession, job: Job, run: RunDir, lease: Lease) -> None:
    """It died without a result. Killed from outside it is tried again, unless it dies of itself
    or always at the same epoch."""
    ended = run.read_exit(lease.attempt) or {
        "reason": "lost",
        "sentence": "The launcher and its trainer vanished: killed, or the machine went down.",
    }
    reason, sentence = ended["reason"], ended["sentence"]
    crashes = session.summary.get("crashes", {})
    count = crashes.get("count", 0) + 1 if crashes.get("epoch") == session.current_epoch else 1
    session.summary["crashes"] = {"epoch": session.current_epoch, "count": count}
    session.save(update_fields=["summary"])
    if reason not in ("killed", "lost"):
        log_traceback(session.pk, run, lease.attempt)
        jobs.end_job(job, State.FAILED, code=reason, sentence=sentence, result={"exit": ended})
    elif count >= max(job.retries, 1):
        jobs.end_job(
            job,
            State.FAILED,
            code="poisoned",
            sentence=f"It died {count} times at epoch {session.current_epoch}. Last: {sentence}",
            result={"exit": ended},
        )
    else:
        delay = BACK_OFF_SECONDS[min(count, len(BACK_OFF_SECONDS)) - 1]
        jobs.requeue_job(job, code=reason, sentence=sentence, delay_seconds=delay)
