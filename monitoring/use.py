"""Who used a GPU, how long, and what it took: an entry a GPU, session and hour."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db.models import F, FloatField, QuerySet, Sum, Value
from django.db.models.functions import Coalesce, TruncDate
from django.utils import timezone

from mlserver.lib.batches import delete_in_batches
from monitoring.energy import Used
from monitoring.models import GpuUse
from monitoring.spans import Span
from sessions.models import TrainingSession

KEPT = timedelta(days=365)
LONGEST_SECONDS = 5.0  # a sampler that stood still did not see who held what
JOULES_PER_KWH = 3.6e6
OTHERS = "others, or idle"


@dataclass(kw_only=True)
class Use:
    """`session_id` is None for all that no session of this server did; `session` is None, too,
    for one that was deleted since."""

    session_id: str | None
    session: TrainingSession | None
    seconds: float
    kwh: float | None

    @property
    def name(self) -> str:
        return self.session.title if self.session else self.session_id or OTHERS

    @property
    def owner(self) -> str | None:
        person = self.session.job.owner if self.session else None
        return person.username if person else None


class UseBook:
    """Collects what was used between two writes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen_at: float | None = None
        self._open: dict[tuple[str, str], tuple[float, float | None]] = {}

    def add(self, used: Used) -> None:
        now = self._clock()
        seconds = 0.0 if self._seen_at is None else min(now - self._seen_at, LONGEST_SECONDS)
        self._seen_at = now
        for uuid, shares in used.items():
            for session, joules in shares.items():
                before, count = self._open.get((uuid, session), (0.0, None))
                total = count if joules is None else (count or 0.0) + joules
                self._open[uuid, session] = (before + seconds, total)

    def write(self) -> None:
        """Into the rows of this hour, and begin anew."""
        hour = whole_hour(timezone.now())
        collected, self._open = self._open, {}
        for (uuid, session), (seconds, joules) in collected.items():
            row, _ = GpuUse.objects.get_or_create(uuid=uuid, hour=hour, session=session)
            values = {"seconds": F("seconds") + seconds}
            if joules is not None:
                start = Coalesce(F("joules"), Value(0.0), output_field=FloatField())
                values["joules"] = start + joules
            GpuUse.objects.filter(pk=row.pk).update(**values)


def read_use(uuid: str, span: Span) -> list[Use]:
    """From the hour in which the span begins; who took most first, what no session did last."""
    rows = list(
        _within(uuid, span).values("session").annotate(seconds=Sum("seconds"), joules=Sum("joules"))
    )
    known = TrainingSession.objects.select_related("job__owner").in_bulk(
        [row["session"] for row in rows]
    )
    found = [
        Use(
            session_id=row["session"] or None,
            session=known.get(row["session"]),
            seconds=row["seconds"],
            kwh=None if row["joules"] is None else row["joules"] / JOULES_PER_KWH,
        )
        for row in rows
    ]
    return sorted(found, key=lambda use: (not use.session_id, -(use.kwh or 0), -use.seconds))


def read_days(uuid: str, span: Span) -> list[tuple[date, float]]:
    """kWh of each day (UTC) on which energy was counted, the newest first."""
    rows = _within(uuid, span).filter(joules__isnull=False).annotate(day=TruncDate("hour"))
    days = rows.values("day").annotate(joules=Sum("joules")).order_by("-day")
    return [(row["day"], row["joules"] / JOULES_PER_KWH) for row in days]


def prune_use(now: datetime) -> int:
    return delete_in_batches(GpuUse.objects.filter(hour__lt=now - KEPT))


def whole_hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _within(uuid: str, span: Span) -> QuerySet[GpuUse]:
    hours = GpuUse.objects.filter(hour__gte=whole_hour(span.start), hour__lt=span.end)
    return hours.filter(uuid=uuid).order_by()
