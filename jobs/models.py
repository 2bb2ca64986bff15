"""The life cycle of anything that takes time, written once.

`state` is what is true, `wanted` is what a person asked for. Every transition is one
conditional UPDATE through `Job.objects`: no row changed means that the race was lost.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Coalesce
from django.utils import timezone


class State(models.TextChoices):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL_STATES = (State.COMPLETED, State.FAILED, State.CANCELLED)
ACTIVE_STATES = (State.QUEUED, State.RUNNING)

# from → to: the whole table of training.md; anything else is refused.
TRANSITIONS: dict[str, frozenset[str]] = {
    State.QUEUED: frozenset({State.RUNNING, State.CANCELLED, State.PAUSED}),
    State.RUNNING: frozenset(
        {State.COMPLETED, State.FAILED, State.PAUSED, State.CANCELLED, State.QUEUED}
    ),
    State.PAUSED: frozenset({State.QUEUED, State.CANCELLED}),
    State.COMPLETED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}


class Wanted(models.TextChoices):
    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"


class JobQuerySet(models.QuerySet["Job"]):
    def active(self) -> JobQuerySet:
        return self.filter(state__in=ACTIVE_STATES)

    def active_or_paused(self) -> JobQuerySet:
        return self.exclude(state__in=FINAL_STATES)

    def running(self) -> JobQuerySet:
        return self.filter(state=State.RUNNING)

    def waiting(self, now: datetime | None = None) -> JobQuerySet:
        """Queued, wanted, and past their back-off: what could be claimed now."""
        due = Q(retry_at=None) | Q(retry_at__lte=now or timezone.now())
        return self.filter(due, state=State.QUEUED, wanted=Wanted.RUN)

    def abandoned(self, now: datetime | None = None) -> JobQuerySet:
        """Running without a fresh lease: nobody supervises them."""
        return self.running().filter(lease_until__lt=now or timezone.now())

    def claim(self, job_id: str, lease_owner: str, host: str) -> bool:
        """Move from queued to running, once.

        Several workers may race for the same row; the conditional UPDATE lets
        exactly one of them win.
        """
        now = timezone.now()
        return bool(
            self.waiting(now)
            .filter(pk=job_id)
            .update(
                state=State.RUNNING,
                attempt=F("attempt") + 1,
                journal_offset=0,
                lease_owner=lease_owner,
                lease_until=now + timedelta(seconds=settings.LEASE_SECONDS),
                host=host,
                phase="",
                stumbles=0,
                yielding=False,
                retry_at=None,
                error="",
                error_code="",
                started_at=Coalesce("started_at", now),
                updated_at=now,
            )
        )

    def take_lease(self, job_id: str, lease_owner: str) -> bool:
        """Begin to supervise a running job that nobody supervises at this moment."""
        now = timezone.now()
        free = Q(lease_owner="") | Q(lease_until__lt=now) | Q(lease_owner=lease_owner)
        return bool(
            self.running()
            .filter(free, pk=job_id)
            .update(lease_owner=lease_owner, lease_until=self._lease_end(now))
        )

    def renew_lease(self, job_id: str, attempt: int, lease_owner: str) -> bool:
        """Keep supervising; False means that another took over and this one must let go."""
        return bool(
            self.running()
            .filter(pk=job_id, attempt=attempt, lease_owner=lease_owner)
            .update(lease_until=self._lease_end(timezone.now()))
        )

    def release_lease(self, job_id: str, lease_owner: str) -> None:
        """Hand over to whoever comes next; the watchdog comes when nobody does."""
        self.filter(pk=job_id, lease_owner=lease_owner).update(lease_owner="")

    def write(self, job_id: str, attempt: int, lease_owner: str, **values: Any) -> bool:
        """Change a running job, fenced: a supervisor that lost its lease writes nothing."""
        return bool(
            self.running()
            .filter(pk=job_id, attempt=attempt, lease_owner=lease_owner)
            .update(**values, updated_at=timezone.now())
        )

    def move(self, job_id: str, source: str, target: str, **values: Any) -> bool:
        """One transition of the table, if the row still stands where the caller believes."""
        if target not in TRANSITIONS[source]:
            raise ValueError(f"a job cannot go from {source} to {target}")
        now = timezone.now()
        if target in FINAL_STATES:
            values = {"finished_at": now, **values}
        if target != State.RUNNING:
            values = {"lease_owner": "", "lease_until": None, **values}
        fence = {key: values.pop(key) for key in ("attempt",) if key in values}
        return bool(
            self.filter(pk=job_id, state=source, **fence).update(
                state=target, updated_at=now, **values
            )
        )

    @staticmethod
    def _lease_end(now: datetime) -> datetime:
        return now + timedelta(seconds=settings.LEASE_SECONDS)


class Job(models.Model):
    """One piece of work. Made only by `jobs.services.create_job`."""

    id = models.CharField(primary_key=True, max_length=64)
    kind = models.CharField(max_length=32)
    state = models.CharField(max_length=16, choices=State, default=State.QUEUED)
    wanted = models.CharField(max_length=16, choices=Wanted, default=Wanted.RUN)
    phase = models.CharField(max_length=32, blank=True, default="")
    priority = models.IntegerField(default=0, help_text="higher goes first")
    preemptible = models.BooleanField(default=False, help_text="yields to other people's work")
    yielding = models.BooleanField(default=False, help_text="asked to give up its seat")
    progress = models.FloatField(default=0.0, help_text="0 to 100")
    spec = models.JSONField(default=dict, help_text="what was asked for")
    result = models.JSONField(null=True, blank=True)
    error = models.TextField(blank=True, default="", help_text="a sentence")
    error_code = models.CharField(max_length=32, blank=True, default="")
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="jobs"
    )
    webhook_url = models.URLField(max_length=2000, blank=True, default="")
    attempt = models.PositiveIntegerField(default=0, help_text="also the fencing token")
    retries = models.PositiveIntegerField(default=3, help_text="how often it may be tried again")
    retry_at = models.DateTimeField(null=True, blank=True)
    stumbles = models.PositiveSmallIntegerField(
        default=0, help_text="slices in a row that raised an exception"
    )
    host = models.CharField(max_length=255, blank=True, default="")
    journal_offset = models.BigIntegerField(default=0, help_text="bytes read of this attempt")
    lease_owner = models.CharField(max_length=128, blank=True, default="")
    lease_until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField(default=timezone.now, db_index=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["kind", "state", "-priority", "created_at"]),
            models.Index(fields=["state", "lease_until"]),
        ]
        constraints = [
            models.CheckConstraint(name="job_state_known", condition=Q(state__in=State.values)),
            models.CheckConstraint(
                name="job_progress_in_percent", condition=Q(progress__range=(0, 100))
            ),
        ]

    def __str__(self) -> str:
        return self.id

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES


class LogLine(models.Model):
    """What a job says of itself; raw output stays in the files of the run."""

    class Level(models.TextChoices):
        DEBUG = "debug"
        INFO = "info"
        WARNING = "warning"
        ERROR = "error"

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="log_lines")
    timestamp = models.DateTimeField(default=timezone.now)
    level = models.CharField(max_length=16, choices=Level, default=Level.INFO)
    message = models.TextField()

    class Meta:
        ordering = ["id"]
        indexes = [
            models.Index(fields=["job", "id"]),
            models.Index(fields=["timestamp"]),
        ]

    def __str__(self) -> str:
        return f"{self.job_id} {self.level}: {self.message[:80]}"


class WebhookDelivery(models.Model):
    """The outbox: a message that somebody outside asked for, until it has arrived."""

    class Status(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        FAILED = "failed"

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="deliveries")
    event = models.CharField(max_length=32)
    payload = models.JSONField()
    attempts = models.PositiveIntegerField(default=0)
    status = models.CharField(max_length=16, choices=Status, default=Status.PENDING)
    next_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "webhook deliveries"
        indexes = [models.Index(fields=["status", "next_at"])]

    def __str__(self) -> str:
        return f"{self.job_id} {self.event} {self.status}"


class QueueHold(models.Model):
    """While one exists, nothing of its kind is started; what runs goes on."""

    kind = models.CharField(max_length=32, db_index=True)
    reason = models.CharField(max_length=500, help_text="a sentence for those who wait")
    by = models.CharField(max_length=150, help_text="a user's name, or what did it by itself")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.kind} held by {self.by}"
