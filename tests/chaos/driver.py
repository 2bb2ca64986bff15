"""What the cluster does with trainings, in one process and without messages."""

from __future__ import annotations

import time
import traceback

from jobs import services
from jobs.models import Job

PAUSE_SECONDS = 0.05


def drive(attempts: int | None = None, seconds: float = 120) -> None:
    """Claim and supervise until all has ended, or so many attempts were made of one job.

    What raises is taken again, as the watchdog would; nobody waits for a back-off.
    """
    trainings = Job.objects.filter(kind="train")
    deadline = time.monotonic() + seconds
    while trainings.active().exists():
        if time.monotonic() > deadline:
            raise TimeoutError([(job.pk, job.state, job.error) for job in trainings.active()])
        trainings.exclude(retry_at=None).update(retry_at=None)
        if not trainings.running().exists():
            if attempts is not None and trainings.filter(attempt__gte=attempts).exists():
                return
            services.claim_next("train")
        for job_id in trainings.running().values_list("pk", flat=True):
            try:
                services.run_slice(job_id)
            except OSError:
                traceback.print_exc()
        time.sleep(PAUSE_SECONDS)
