"""Datasets that take long to fetch: a job of the default cluster.

One child fetches the file, another reads it; slices of the queue only look after them. Both
outlive a worker; what dies with the server is begun again when the job is taken up again.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet

from accounts import audit
from datasets import services
from datasets.models import Dataset
from jobs import services as jobs
from jobs.access import can_change
from jobs.leases import Lease
from jobs.models import FINAL_STATES, Job, State, Wanted
from jobs.slices import look_until_done
from mlserver.lib.background import BackgroundChild
from mlserver.lib.children import GIB, ChildCrashed
from mlserver.lib.errors import AppError, Forbidden
from mlserver.lib.files import INCOMING, remove_folder

KIND = services.DOWNLOAD
MEMORY_BYTES = 4 * GIB
ANNOUNCED = "announced"
"""A file of the fetching child: how many bytes there will be."""
FETCHED_PERCENT = 90.0
"""Of the progress; the rest is reading."""


def request_download(owner: User, *, name: str, original: str, **remote: Any) -> Job:
    """Put the fetching of a datasets.sources.Remote into the queue."""
    spec = {**remote, "original": original, "name": services.check_new(owner, name, original)}
    with transaction.atomic():
        job = jobs.create_job(KIND, owner=owner, spec=spec)
        audit.record(owner, "dataset.download", job.pk, after={"url": spec["url"]})
    return job


def list_unfinished() -> QuerySet[Job]:
    """What waits, is fetched, or failed and was not told away yet."""
    rows = Job.objects.filter(kind=KIND).select_related("owner")
    return rows.exclude(state__in=(State.COMPLETED, State.CANCELLED))


def cancel_download(job_id: str, by: User) -> None:
    """End what runs; forget what failed."""
    job = Job.objects.select_related("owner").filter(kind=KIND, pk=job_id).first()
    if job is None:
        raise services.DatasetNotFound(f"There is no download {job_id!r}.")
    if not can_change(by, job):
        raise Forbidden(f"{job.pk} belongs to somebody else; its owner or an admin may.")
    if job.state in FINAL_STATES:
        job.delete()
    else:
        jobs.cancel_job(job)


def count_seats() -> int:
    return 2


# --- The job ------------------------------------------------------------------------------


def work(lease: Lease) -> bool:
    """One slice: start a child or find it running, keep what it brought. True: not done yet."""
    return look_until_done(lease, _advance)


def abandon(job: Job) -> None:
    """End what is at work for a job, and take away what it left."""
    for child in (_fetcher(job), _reader(job)):
        child.stop()
        child.remove()
    remove_folder(_incoming(job))


def _fetcher(job: Job) -> BackgroundChild:
    return BackgroundChild(settings.RUNS_DIR / f"{job.pk}-{job.attempt}-fetch")


def _reader(job: Job) -> BackgroundChild:
    return BackgroundChild(settings.RUNS_DIR / f"{job.pk}-{job.attempt}-read")


def _incoming(job: Job) -> Path:
    return settings.DATASETS_DIR / INCOMING / f"{job.pk}-{job.attempt}"


def _advance(lease: Lease) -> bool:
    """One look; True when the job has ended."""
    job = Job.objects.select_related("owner").get(pk=lease.job_id)
    if job.wanted != Wanted.RUN:
        abandon(job)
        state = State.PAUSED if job.wanted == Wanted.PAUSE else State.CANCELLED
        return jobs.end_job(job, state, sentence=f"{state.label}.")
    try:
        return _work_on(job, lease)
    except ChildCrashed as error:
        abandon(job)
        if job.attempt < job.retries:  # perhaps the server went down
            return jobs.requeue_job(job, code="lost", sentence=error.detail)
        return jobs.end_job(job, State.FAILED, sentence=error.detail, code=error.code)
    except AppError as error:
        abandon(job)
        return jobs.end_job(job, State.FAILED, sentence=error.detail, code=error.code)


def _work_on(job: Job, lease: Lease) -> bool:
    """Raises AppError: what the children say, and what making a version refuses."""
    fetcher, reader, folder = _fetcher(job), _reader(job), _incoming(job)
    if not fetcher.has_begun():
        folder.mkdir(parents=True)
        _start_fetching(fetcher, job, folder)
    elif fetcher.is_running():
        _tell_progress(lease, folder, fetcher)
    elif not reader.has_begun():
        fetcher.answer()
        payload = services.reading_payload(folder, job.spec["original"], job.spec["target"])
        seconds = services.IMPORT_SECONDS
        reader.start("import_dataset", payload, cpu_seconds=seconds, memory_bytes=MEMORY_BYTES)
        lease.write(phase="reading", progress=FETCHED_PERCENT)
    elif not reader.is_running():
        return _publish(job, reader.answer(), folder)
    return False


def _start_fetching(fetcher: BackgroundChild, job: Job, folder: Path) -> None:
    payload = {
        "url": job.spec["url"],
        "hops": job.spec["hops"],
        "path": str(folder / services.UPLOAD),
        "announced": str(fetcher.folder / ANNOUNCED),
    }
    # What a server may be told otherwise than by its environment.
    environment = {
        "ALLOWED_PRIVATE_HOSTS": ",".join(settings.ALLOWED_PRIVATE_HOSTS),
        "MAX_UPLOAD_SIZE": str(settings.MAX_UPLOAD_SIZE),
    }
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "fetch_file"]
    fetcher.run(command, payload, {**os.environ, **environment})


def _tell_progress(lease: Lease, folder: Path, fetcher: BackgroundChild) -> None:
    values: dict[str, Any] = {"phase": "downloading"}
    with suppress(FileNotFoundError, ValueError):  # nothing came yet, or nothing was announced
        announced = int((fetcher.folder / ANNOUNCED).read_text())
        received = (folder / services.UPLOAD).stat().st_size
        values["progress"] = min(1.0, received / max(1, announced)) * FETCHED_PERCENT
    lease.write(**values)


def _publish(job: Job, schema: dict[str, Any], folder: Path) -> bool:
    spec = job.spec
    wanted = Dataset(name=spec["name"], description=spec["description"], owner=job.owner)
    with transaction.atomic():
        version, is_new = services.publish(folder, schema, wanted, job.owner, spec["original"])
        jobs.end_job(
            job,
            State.COMPLETED,
            sentence=f"{version} holds {version.sample_count:,} samples.",
            progress=100,
            result={
                "dataset": version.dataset.name,
                "version": version.number,
                "is_new": is_new,
            },
        )
    abandon(job)
    return True
