"""Statistics of a version, made in the background: a job of the default cluster.

The reading is done by a child that may take minutes; slices of the queue only look after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from datasets.models import DatasetVersion
from jobs import services as jobs
from jobs.leases import Lease
from jobs.models import Job, State, Wanted
from jobs.slices import look_until_done
from mlserver.lib.background import BackgroundChild
from mlserver.lib.children import GIB, ChildCrashed, ChildFailed, ChildRefused

KIND = "dataset_statistics"
CPU_SECONDS = 600
MEMORY_BYTES = 4 * GIB
MISSING = "missing"


@dataclass(frozen=True)
class Statistics:
    """What is known of a version: `values` when `state` is completed."""

    state: str
    job: Job | None
    values: dict[str, Any] | None

    @property
    def is_pending(self) -> bool:
        return self.state in (State.QUEUED, State.RUNNING)


def request_statistics(version: DatasetVersion, by: User | None) -> Job:
    """Put the reading into the queue; the one that waits or runs already is enough."""
    job = _newest_job(version)
    if job is not None and not job.is_final:
        return job
    spec = {"version": version.pk, "dataset": str(version)}
    return jobs.create_job(KIND, owner=by, spec=spec)


def find_statistics(version: DatasetVersion) -> Statistics:
    if version.statistics:
        return Statistics(State.COMPLETED, None, version.statistics)
    job = _newest_job(version)
    return Statistics(MISSING if job is None else job.state, job, None)


def count_seats() -> int:
    """One at a time: a child may take gigabytes, and trainings go before curiosity."""
    return 1


def _newest_job(version: DatasetVersion) -> Job | None:
    return Job.objects.filter(kind=KIND, spec__version=version.pk).order_by("-created_at").first()


# --- The job ------------------------------------------------------------------------------


def work(lease: Lease) -> bool:
    """One slice: start the child or find it running, store what it found. True: not done yet."""
    return look_until_done(lease, _advance)


def abandon(job: Job) -> None:
    """End the child of a job that cannot be looked after."""
    child = _child(job)
    child.stop()
    child.remove()


def _child(job: Job) -> BackgroundChild:
    return BackgroundChild(settings.RUNS_DIR / f"{job.pk}-{job.attempt}")


def _advance(lease: Lease) -> bool:
    """One look; True when the job has ended."""
    job = Job.objects.get(pk=lease.job_id)
    child = _child(job)
    version = DatasetVersion.objects.filter(pk=job.spec["version"]).first()
    if job.wanted != Wanted.RUN or version is None:
        abandon(job)
        return _stop(job, version)
    if not child.has_begun():
        payload = {"folder": str(version.folder)}
        child.start("statistics", payload, cpu_seconds=CPU_SECONDS, memory_bytes=MEMORY_BYTES)
    elif not child.is_running():
        _finish(job, version, child)
        return True
    return False


def _stop(job: Job, version: DatasetVersion | None) -> bool:
    if version is None:
        return jobs.end_job(job, State.CANCELLED, sentence="The dataset was deleted.")
    state = State.PAUSED if job.wanted == Wanted.PAUSE else State.CANCELLED
    return jobs.end_job(job, state, sentence=f"{state.label}.")


def _finish(job: Job, version: DatasetVersion, child: BackgroundChild) -> None:
    try:
        values = child.answer()
    except (ChildRefused, ChildFailed) as error:
        if isinstance(error, ChildCrashed) and job.attempt < job.retries:
            # Perhaps the machine went down, or its memory was full for a moment.
            jobs.requeue_job(job, code="lost", sentence=error.detail)
        else:
            jobs.end_job(job, State.FAILED, sentence=error.detail, code=error.code)
    else:
        with transaction.atomic():
            if jobs.end_job(job, State.COMPLETED, sentence="All values are read.", progress=100):
                DatasetVersion.objects.filter(pk=version.pk).update(statistics=values)
    child.remove()
