"""What is new in the tables since the last look, as events for whoever listens.

Called by the hub in one thread, four times a second for all streams together. Rows are
found by `id > last`; changed jobs by `updated_at`, with an overlap, because a row is
stamped a moment before its transaction commits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Max, Model
from django.utils import timezone

from jobs.models import ACTIVE_STATES, Job, LogLine
from mlserver.lib.errors import FieldError, Invalid, NotFound
from monitoring.models import Alert, HostSample
from monitoring.notices import describe_alert
from monitoring.services import (
    describe_processes,
    describe_sample,
    latest_processes,
    latest_sample,
)
from sessions.models import EpochMetric, MetricPoint

MOST_TOPICS = 32
MOST_ROWS = 20_000  # of one table in one look; the rest comes with the next
OVERLAP = timedelta(seconds=5)
SNAPSHOT_SESSIONS = 100
SYSTEM, SESSIONS, SESSION, JOB = "system", "sessions", "session:", "job:"
LATEST = ("loss", "accuracy", "val_loss", "val_accuracy")


@dataclass(frozen=True)
class Event:
    topic: str
    type: str
    data: dict[str, Any]


def parse_topics(text: str) -> frozenset[str]:
    """The topics of `?topics=system,session:<id>`; raises Invalid, or NotFound for an id."""
    topics = frozenset(part.strip() for part in text.split(",") if part.strip())
    if not topics:
        raise _refuse("topics is empty; for example topics=system,sessions", text)
    if len(topics) > MOST_TOPICS:
        raise _refuse(f"topics may name at most {MOST_TOPICS}, got {len(topics)}", text)
    for topic in sorted(topics):
        if topic not in (SYSTEM, SESSIONS) and not topic.startswith((SESSION, JOB)):
            raise _refuse(
                f"unknown topic {topic!r}; known are system, sessions, session:<id>, job:<id>",
                topic,
            )
    _require_jobs(topics)
    return topics


def _refuse(message: str, value: str) -> Invalid:
    return Invalid(message, errors=[FieldError(field="topics", message=message, value=value)])


def _require_jobs(topics: Iterable[str]) -> None:
    for topic in topics:
        prefix, _, job_id = topic.partition(":")
        jobs = Job.objects.filter(pk=job_id)
        if topic.startswith(SESSION):
            jobs = jobs.filter(training_session__isnull=False)
        if job_id and not jobs.exists():
            raise NotFound(f"There is no {prefix} {job_id!r}.")
        if topic in (SESSION, JOB):
            raise _refuse(f"topic {topic!r} needs an id: {topic}<id>", topic)


class Feed:
    """Remembers how far each table was read. A table that nobody needs is not looked at."""

    def __init__(self) -> None:
        self._last: dict[type[Model], int] = {}
        self._told: dict[str, dict[str, Any]] = {}
        self._jobs_read_at = timezone.now()
        self._processes_at: datetime | None = None
        self._alerts_told: dict[int, datetime] = {}

    def open(self, topics: Set[str]) -> list[Event]:
        """Begin to follow these; how things stand now, read after the place is marked."""
        for table in _tables(topics):
            if table not in self._last:
                self._last[table] = table._default_manager.aggregate(last=Max("pk"))["last"] or 0
        events = list(_snapshot(topics))
        if self._processes_at is None:
            told = (event.data["timestamp"] for event in events if event.type == "procs")
            self._processes_at = next(told, None)
        return events

    def read(self, topics: Set[str]) -> list[Event]:
        """Everything new. Jobs are read first and told last: when a stream learns that a
        session has ended, it has all its numbers."""
        changes = [*self._read_alerts(topics), *self._read_jobs(topics)]
        tables = _tables(topics)
        self._last = {table: last for table, last in self._last.items() if table in tables}
        return [
            *self._read_samples(topics),
            *self._read_points(topics),
            *self._read_epochs(topics),
            *self._read_lines(topics),
            *changes,
        ]

    def _new(self, table: type[Model]) -> list[Any]:
        if table not in self._last:
            return []
        # No filter by session: the primary key alone finds the few new rows at once.
        rows = table._default_manager.filter(pk__gt=self._last[table]).order_by("pk")[:MOST_ROWS]
        found = list(rows.prefetch_related("gpus") if table is HostSample else rows)
        if found:
            self._last[table] = found[-1].pk
        return found

    def _read_samples(self, topics: Set[str]) -> Iterator[Event]:
        samples = self._new(HostSample)
        for sample in samples:
            yield Event(SYSTEM, "sample", describe_sample(sample))
        if samples:  # processes are stored together with some of them
            yield from self._read_processes()

    def _read_processes(self) -> Iterator[Event]:
        table = latest_processes()
        if table is not None and table.timestamp != self._processes_at:
            self._processes_at = table.timestamp
            yield Event(SYSTEM, "procs", describe_processes(table))

    def _read_alerts(self, topics: Set[str]) -> Iterator[Event]:
        """Those that opened, closed or found somebody who looks after them."""
        if SYSTEM not in topics:
            return
        changed = Alert.objects.shown().filter(updated_at__gt=self._jobs_read_at - OVERLAP)
        stamps = {alert.pk: alert.updated_at for alert in changed}
        for alert in changed:
            if self._alerts_told.get(alert.pk) != alert.updated_at:
                yield Event(SYSTEM, "alert", describe_alert(alert))
        self._alerts_told = stamps

    def _read_points(self, topics: Set[str]) -> Iterator[Event]:
        series: dict[str, dict[str, list[list[Any]]]] = defaultdict(lambda: defaultdict(list))
        for point in self._new(MetricPoint):
            if SESSION + point.session_id in topics:
                series[point.session_id][point.key].append([point.step, point.value])
        for session_id, values in series.items():
            data = {"session": session_id, "series": values}
            yield Event(SESSION + session_id, "metric", data)

    def _read_epochs(self, topics: Set[str]) -> Iterator[Event]:
        for epoch in self._new(EpochMetric):
            if SESSION + epoch.session_id in topics:
                yield Event(SESSION + epoch.session_id, "epoch", describe_epoch(epoch))

    def _read_lines(self, topics: Set[str]) -> Iterator[Event]:
        lines: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for line in self._new(LogLine):
            for topic in {SESSION + line.job_id, JOB + line.job_id} & topics:
                lines[topic].append(describe_line(line))
        for topic, told in lines.items():
            data = {"id": topic.partition(":")[2], "lines": told, "next_after": told[-1]["id"]}
            yield Event(topic, "log", data)

    def _read_jobs(self, topics: Set[str]) -> Iterator[Event]:
        read_at = timezone.now()
        if topics - {SYSTEM}:
            changed = Job.objects.filter(updated_at__gt=self._jobs_read_at - OVERLAP)
            yield from self._tell(list(changed.select_related("training_session")), topics)
        self._jobs_read_at = read_at  # after a failure the next look reaches further back

    def _tell(self, jobs: list[Job], topics: Set[str]) -> Iterator[Event]:
        """Only what differs from what was told: the overlap shows rows again."""
        told_before, self._told = self._told, {}
        for job in jobs:
            state = describe_job(job)
            self._told[job.pk] = state
            if told_before.get(job.pk) != state:
                yield from _events_of(job, state, topics)


def _tables(topics: Set[str]) -> set[type[Model]]:
    tables: set[type[Model]] = set()
    if SYSTEM in topics:
        tables.add(HostSample)
    if any(topic.startswith((SESSION, JOB)) for topic in topics):
        tables.add(LogLine)
    if any(topic.startswith(SESSION) for topic in topics):
        tables |= {MetricPoint, EpochMetric}
    return tables


def _snapshot(topics: Set[str]) -> Iterator[Event]:
    if SYSTEM in topics and (sample := latest_sample()) is not None:
        yield Event(SYSTEM, "sample", describe_sample(sample))
        if (table := latest_processes()) is not None:
            yield Event(SYSTEM, "procs", describe_processes(table))
    jobs = Job.objects.select_related("training_session")
    if SESSIONS in topics:
        active = jobs.filter(state__in=ACTIVE_STATES, training_session__isnull=False)
        for job in active[:SNAPSHOT_SESSIONS]:
            yield Event(SESSIONS, "session", describe_job(job))
    named = {topic.partition(":")[2] for topic in topics if ":" in topic}
    for job in jobs.filter(pk__in=named):
        yield from _events_of(job, describe_job(job), topics - {SESSIONS})


def _events_of(job: Job, state: dict[str, Any], topics: Set[str]) -> Iterator[Event]:
    is_session = hasattr(job, "training_session")
    if is_session and SESSIONS in topics:
        yield Event(SESSIONS, "session", state)
    if is_session and SESSION + job.pk in topics:
        yield Event(SESSION + job.pk, "session", state)
    if JOB + job.pk in topics:
        yield Event(JOB + job.pk, "job", state)


def describe_job(job: Job) -> dict[str, Any]:
    """What the events `session` and `job` carry."""
    data = {
        "id": job.pk,
        "kind": job.kind,
        "state": job.state,
        "wanted": job.wanted,
        "phase": job.phase,
        "priority": job.priority,
        "progress": job.progress,
        "attempt": job.attempt,
        "error": job.error,
        "error_code": job.error_code,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
    }
    session = getattr(job, "training_session", None)
    if session is None:
        return data
    latest = session.summary.get("latest") or {}
    return {
        **data,
        "name": session.name,
        "current_epoch": session.current_epoch,
        "total_epochs": session.total_epochs,
        "current_step": session.current_step,
        "total_steps": session.total_steps,
        "produced": str(session.produced) if session.produced else None,
        **{key: latest.get(key) for key in LATEST},
    }


def describe_epoch(epoch: EpochMetric) -> dict[str, Any]:
    return {
        "session": epoch.session_id,
        "epoch": epoch.epoch,
        **{key: getattr(epoch, key) for key in LATEST},
        "extra": epoch.extra,
        "timestamp": epoch.timestamp,
    }


def describe_line(line: LogLine) -> dict[str, Any]:
    return {
        "id": line.pk,
        "timestamp": line.timestamp,
        "level": line.level,
        "message": line.message,
    }
