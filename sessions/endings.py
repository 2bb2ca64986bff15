"""How an attempt that is over becomes the state of its session.

Everything here may run twice, and may be cut off anywhere: a model is registered once a
session, and what changes the row is one transaction, fenced by the lease.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction

from jobs import services as jobs
from jobs.leases import Lease, LeaseLost
from jobs.models import Job, State, Wanted
from ml import failpoints
from ml.rundir import RunDir, read_json
from mlserver.lib.errors import AppError
from mlserver.version import VERSION
from models_registry.models import ModelVersion
from models_registry.services import register_version
from sessions.cards import write_card
from sessions.files import record_artifacts
from sessions.models import TrainingSession
from sessions.tracebacks import log_traceback

NOT_MEASURED = "The sampler did not see it while it ran."
VANISHED = "The launcher and its trainer vanished: killed, or the machine went down."
BACK_OFF_SECONDS = (0, 10, 60)
NO_SPACE_SECONDS = 60
# What came from outside and may be over; all else would only happen again.
PASSING = frozenset({"killed", "lost", "hung", "io_error", "disk_full"})


def finish(session: TrainingSession, run: RunDir, lease: Lease) -> None:
    """The trainer is gone: say how it ended."""
    job = Job.objects.get(pk=session.pk)
    if job.attempt != lease.attempt:
        raise LeaseLost(session.pk)
    record_artifacts(session)
    result = run.read_result(lease.attempt) or {}
    status = result.get("status")
    if status == "completed":
        _complete(session, job, run, lease, result)
        return
    code, sentence = _read_failure(session, run, lease.attempt, result)
    if status == "failed" and code not in PASSING:
        _fail(session, job, run, lease, code, sentence)
    elif job.wanted == Wanted.CANCEL:
        jobs.end_job(job, State.CANCELLED, sentence="Cancelled.")
    elif job.wanted == Wanted.PAUSE:
        jobs.end_job(job, State.PAUSED, sentence="Paused; resume goes on from the last checkpoint.")
    elif status in ("paused", "cancelled"):
        _put_back(job)
    else:
        settle_failure(session, job, run, lease, code, sentence)


def _complete(
    session: TrainingSession, job: Job, run: RunDir, lease: Lease, result: dict[str, Any]
) -> None:
    failpoints.hit("supervisor.before_register")
    try:
        session.produced = _register_model(session, job, run, result)
    except AppError as error:
        jobs.end_job(job, State.FAILED, code=error.code, sentence=error.detail, result=result)
        return
    failpoints.hit("supervisor.after_register")
    with transaction.atomic():
        lease.write()
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
    described: dict[str, Any] = {}
    for name in ("preprocess.json", "config.json"):  # each recipe says it in one of them
        described |= read_json(run.model_path / name) or {}
    version = session.dataset_version
    session.refresh_from_db(fields=["energy_joules", "energy_reason"])  # the sampler counts
    return register_version(
        name=session.name or default_model_name(session),
        folder=run.model_path,
        owner=job.owner,
        framework=described.get("framework", "pytorch"),
        task=described.get("task", "classification"),
        metrics=result.get("metrics", {}),
        lineage={
            "session": session.pk,
            "dataset": str(version),
            "dataset_sha256": version.sha256 if version else None,
            "recipe": session.recipe,
            "base_model": session.base_model or None,
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
        card=write_card(session, run, result.get("metrics", {})),
    )


def default_model_name(session: TrainingSession) -> str:
    version = session.dataset_version
    how = session.config.get("architecture") or session.recipe
    return f"{version.dataset.name if version else 'model'}-{how}"


def _put_back(job: Job) -> None:
    """Its trainer saved and stopped, but nobody wants that (any more)."""
    code, sentence = "shutdown", "Interrupted; it goes on from its checkpoint."
    if job.yielding:
        code = "preempted"
        sentence = "It gave its seat to somebody's own session; it goes on when a seat is free."
    jobs.requeue_job(job, code=code, sentence=sentence)


def _read_failure(
    session: TrainingSession, run: RunDir, attempt: int, result: dict[str, Any]
) -> tuple[str, str]:
    """Word and sentence: the trainer's own, the watchdog's, the launcher's, or nobody's."""
    if result.get("status") == "failed":
        error = result.get("error") or {}
        silence = "The trainer failed without a word."
        return error.get("code", "crashed"), error.get("message", silence)
    hung = session.summary.get("hung", {})
    if hung.get("attempt") == attempt:
        return "hung", hung["sentence"]
    ended = run.read_exit(attempt)
    return (ended["reason"], ended["sentence"]) if ended else ("lost", VANISHED)


def settle_failure(
    session: TrainingSession, job: Job, run: RunDir, lease: Lease, code: str, sentence: str
) -> None:
    """It died without a model. What may pass is tried again, unless always at the same epoch."""
    if code not in PASSING:
        _fail(session, job, run, lease, code, sentence)
        return
    with transaction.atomic():
        lease.write()
        count = _count_crash(session)
        if count < max(job.retries, 1):
            wait = BACK_OFF_SECONDS[min(count, len(BACK_OFF_SECONDS)) - 1]
            delay = NO_SPACE_SECONDS if code == "disk_full" else wait
            jobs.requeue_job(job, code=code, sentence=sentence, delay_seconds=delay)
        elif code == "disk_full":
            told = f"{sentence} Tried {count} times at epoch {session.current_epoch}: paused."
            jobs.end_job(job, State.PAUSED, code=code, sentence=told)
        else:
            told = f"It died {count} times at epoch {session.current_epoch}. Last: {sentence}"
            jobs.end_job(job, State.FAILED, code="poisoned", sentence=told, result=_facts(run, job))


def _count_crash(session: TrainingSession) -> int:
    """How often in a row it has died at this epoch, this time included."""
    crashes = session.summary.get("crashes", {})
    count = crashes.get("count", 0) + 1 if crashes.get("epoch") == session.current_epoch else 1
    session.summary["crashes"] = {"epoch": session.current_epoch, "count": count}
    session.save(update_fields=["summary"])
    return count


def _fail(
    session: TrainingSession, job: Job, run: RunDir, lease: Lease, code: str, sentence: str
) -> None:
    with transaction.atomic():
        lease.write()
        log_traceback(session.pk, run, lease.attempt)
        jobs.end_job(job, State.FAILED, code=code, sentence=sentence, result=_facts(run, job))


def _facts(run: RunDir, job: Job) -> dict[str, Any]:
    """What the row keeps of a failed attempt: the trainer's result, else the launcher's facts."""
    return run.read_result(job.attempt) or {"exit": run.read_exit(job.attempt)}
