"""Makes jobs, says which goes next, wakes the workers. Knows no kind of work in particular."""

from __future__ import annotations

import logging
import socket
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import timedelta
from itertools import zip_longest
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone
from django.utils.module_loading import import_string
from django_q.tasks import async_task

from jobs.leases import Lease
from jobs.models import Job, LogLine, QueueHold, State, Wanted
from jobs.preemption import ask_to_yield
from ml import failpoints
from ml.storable import storable
from mlserver.lib.errors import Conflict
from mlserver.lib.ids import make_id
from mlserver.lib.locks import exclusive

logger = logging.getLogger(__name__)

MOST_STUMBLES = 5  # at least a lease apart, so a minute or more


class WrongState(Conflict):
    code = "wrong_state"


def create_job(
    kind: str,
    *,
    owner: User | None,
    spec: dict[str, Any],
    priority: int = 0,
    preemptible: bool = False,
) -> Job:
    """Put a new job into the queue; its workers wake when the transaction commits."""
    for _ in range(10):
        now = timezone.now()
        job = Job(
            id=make_id(kind, now),
            kind=kind,
            owner=owner,
            spec=spec,
            priority=priority,
            preemptible=preemptible,
            created_at=now,
        )
        try:
            with transaction.atomic():
                job.save(force_insert=True)  # a plain save() would overwrite a namesake
        except IntegrityError:
            continue
        wake(kind)
        return job
    raise RuntimeError("ten ids in a row were taken: the source of randomness is broken")


def log(job_id: str, message: str, level: str = LogLine.Level.INFO) -> None:
    """Into the log of the job, and into the server's."""
    LogLine.objects.create(job_id=job_id, level=level, message=storable(message))
    logger.log(logging.getLevelNamesMapping()[level.upper()], "Job %s: %s", job_id, message)


# --- The queue --------------------------------------------------------------------------


def queue_order(kind: str) -> list[str]:
    """Ids of the waiting jobs in the order in which they will be claimed.

    What is preemptible comes last. By priority, then owners in turn (who was served longest
    ago comes first), then first come.
    """
    return _in_order(kind, _waiting_rows(kind))


def place_in_queue(kind: str, *, owner: User, priority: int) -> int:
    """The place, from 1, that a job would have if it came now; it is not created."""
    newcomer = ("", owner.pk, False, priority)
    return 1 + _in_order(kind, [*_waiting_rows(kind), newcomer]).index("")


Waiting = tuple[str, int | None, bool, int]


def _waiting_rows(kind: str) -> list[Waiting]:
    """First come, first."""
    waiting = Job.objects.filter(kind=kind).waiting().order_by("created_at", "id")
    return list(waiting.values_list("id", "owner_id", "preemptible", "priority"))


def _in_order(kind: str, rows: Iterable[Waiting]) -> list[str]:
    last_served = dict(
        Job.objects.filter(kind=kind, started_at__isnull=False)
        .values_list("owner_id")
        .annotate(Max("started_at"))
        .order_by()
    )
    by_rank: dict[Any, dict[int | None, list[str]]] = defaultdict(lambda: defaultdict(list))
    for job_id, owner, preemptible, priority in rows:
        by_rank[not preemptible, priority][owner].append(job_id)
    order: list[str] = []
    for rank in sorted(by_rank, reverse=True):
        queues = by_rank[rank]
        turns = sorted(queues, key=lambda who: _never_first(last_served.get(who)))
        order += _in_turns(queues[who] for who in turns)
    return order


def _never_first(served_at: Any) -> float:
    return served_at.timestamp() if served_at else 0.0


def _in_turns(queues: Iterable[list[str]]) -> list[str]:
    rounds = zip_longest(*queues)
    return [job_id for one_round in rounds for job_id in one_round if job_id is not None]


def count_free_seats(kind: str) -> int:
    seats: Callable[[], int] = import_string(settings.JOB_KINDS[kind]["seats"])
    return seats() - Job.objects.filter(kind=kind).running().count()


def is_held(kind: str) -> bool:
    return QueueHold.objects.filter(kind=kind).exists()


def claim_next(kind: str) -> Job | None:
    """Give a free seat to the first in line. The lock keeps two claimers from sharing a seat.

    None while the queue is held (see jobs.holds). Without a free seat, those who must
    yield are asked to (see jobs.preemption).
    """
    with exclusive(f"seats:{kind}"):
        if is_held(kind):
            return None
        if count_free_seats(kind) <= 0:
            ask_to_yield(kind)
            return None
        for job_id in queue_order(kind):
            if Job.objects.claim(job_id, lease_owner="", host=socket.gethostname()):
                return Job.objects.get(pk=job_id)
    return None


def run_slice(job_id: str) -> None:
    """Work on a running job for a few seconds, unless somebody else is doing so."""
    job = Job.objects.filter(pk=job_id).first()
    if job is None:
        return  # deleted since the message was sent
    lease = Lease(job_id, job.attempt)
    if not Job.objects.take_lease(job_id, lease.owner):
        return
    work: Callable[[Lease], bool] = import_string(settings.JOB_KINDS[job.kind]["slice"])
    try:
        failpoints.hit("supervisor.after_claim")
        goes_on = work(lease)
    except Exception as error:
        _stumble(job, error)
        raise  # into the cluster's log; the watchdog brings the next slice
    finally:
        lease.release()
    if job.stumbles:
        Job.objects.filter(pk=job_id).update(stumbles=0)
    if goes_on:
        send_slice(job_id, job.kind)
    else:
        wake(job.kind)


def _stumble(job: Job, error: Exception) -> None:
    """Note that a slice raised. What never goes well must not keep its seat for ever."""
    log(job.pk, traceback.format_exc(), LogLine.Level.ERROR)
    job.stumbles += 1
    Job.objects.filter(pk=job.pk).update(stumbles=job.stumbles)
    if job.stumbles < MOST_STUMBLES:
        return
    abandon: Callable[[Job], None] = import_string(settings.JOB_KINDS[job.kind]["abandon"])
    abandon(job)
    sentence = (
        f"{MOST_STUMBLES} times in a row the server could not look after it: "
        f"{type(error).__name__}: {error}. Its log has the tracebacks."
    )
    end_job(job, State.FAILED, code="unsupervised", sentence=sentence)


# --- Messages: only wake-ups, the row is the truth ------------------------------------------


def wake(kind: str) -> None:
    """Tell the workers of this kind that a seat or a job may be there."""
    transaction.on_commit(lambda: _send("jobs.tasks.start_next", kind, kind))


def send_slice(job_id: str, kind: str) -> None:
    transaction.on_commit(lambda: _send("jobs.tasks.run_slice", job_id, kind))


def _send(task: str, argument: str, kind: str) -> None:
    async_task(task, argument, cluster=settings.JOB_KINDS[kind]["cluster"], save=False)


def wake_what_waits(cluster: str | None = None) -> None:
    """The watchdog: resume what runs without a supervisor, start what waits."""
    for kind, how in settings.JOB_KINDS.items():
        if cluster not in (None, how["cluster"]):
            continue
        for job_id in Job.objects.filter(kind=kind).abandoned().values_list("pk", flat=True):
            send_slice(job_id, kind)
        if Job.objects.filter(kind=kind).waiting().exists() and not is_held(kind):
            wake(kind)


# --- What a person may ask for -------------------------------------------------------------


def cancel_job(job: Job) -> Job:
    """Cancel at once what waits or rests; ask what runs to end. Refuses what has ended."""
    asked = (
        Job.objects.filter(pk=job.pk)
        .active_or_paused()
        .update(wanted=Wanted.CANCEL, updated_at=timezone.now())
    )
    for state in (State.QUEUED, State.PAUSED):
        if Job.objects.move(job.pk, state, State.CANCELLED):
            log(job.pk, "Cancelled before it ran." if job.attempt == 0 else "Cancelled.")
    job.refresh_from_db()
    if not asked:
        raise WrongState(f"{job.pk} has already ended: it is {job.state}.")
    return job


def pause_job(job: Job) -> Job:
    """Hold back what waits; ask what runs to checkpoint and end."""
    changed = (
        Job.objects.filter(pk=job.pk, wanted=Wanted.RUN)
        .active()
        .update(wanted=Wanted.PAUSE, updated_at=timezone.now())
    )
    Job.objects.move(job.pk, State.QUEUED, State.PAUSED)
    job.refresh_from_db()
    if not changed:
        raise WrongState(f"{job.pk} cannot be paused: it is {job.state}.")
    return job


def resume_job(job: Job) -> Job:
    """Put a paused job back into the queue."""
    if not Job.objects.move(job.pk, State.PAUSED, State.QUEUED, wanted=Wanted.RUN):
        job.refresh_from_db()
        raise WrongState(f"{job.pk} cannot be resumed: it is {job.state}, not paused.")
    wake(job.kind)
    job.refresh_from_db()
    return job


def set_priority(job: Job, priority: int) -> Job:
    """Move a waiting job forward or back."""
    waiting = Job.objects.filter(pk=job.pk, state=State.QUEUED)
    if not waiting.update(priority=priority, updated_at=timezone.now()):
        job.refresh_from_db()
        raise WrongState(f"{job.pk} is {job.state}: only what waits has a place in the queue.")
    job.refresh_from_db()
    return job


# --- What becomes of what ran ----------------------------------------------------------------


def requeue_job(job: Job, *, code: str, sentence: str, delay_seconds: float = 0) -> bool:
    """Put a running job back into the queue, to go on from where it was."""
    retry_at = timezone.now() + timedelta(seconds=delay_seconds) if delay_seconds else None
    with transaction.atomic():
        moved = Job.objects.move(
            job.pk,
            State.RUNNING,
            State.QUEUED,
            attempt=job.attempt,
            error=sentence,
            error_code=code,
            retry_at=retry_at,
            phase="",
        )
        if moved:
            log(job.pk, sentence, LogLine.Level.WARNING)
            _settle(job)
            wake(job.kind)
        failpoints.hit("supervisor.before_requeue")
    return moved


def _settle(job: Job) -> None:
    """Heed a wish that came while the job was on its way back into the queue."""
    job.refresh_from_db(fields=["wanted"])
    state = {Wanted.CANCEL: State.CANCELLED, Wanted.PAUSE: State.PAUSED}.get(Wanted(job.wanted))
    if state is not None:
        Job.objects.move(job.pk, State.QUEUED, state)


def end_job(job: Job, state: str, *, sentence: str, code: str = "", **values: Any) -> bool:
    """Move a running job to how it ended; False when somebody else has done so.

    The sentence goes into the log, and with a `code` it is the job's error.
    """
    with transaction.atomic():
        moved = Job.objects.move(
            job.pk,
            State.RUNNING,
            state,
            attempt=job.attempt,
            error=sentence if code else "",
            error_code=code,
            phase="",
            **values,
        )
        if moved:
            log(job.pk, sentence, LogLine.Level.ERROR if code else LogLine.Level.INFO)
        failpoints.hit("supervisor.before_end")
    return moved
