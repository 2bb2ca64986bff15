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
from monitoring.energy import NOBODY, Used
from monitoring.models import GpuUse
from sessions.models import TrainingSession

KEPT = timedelta(days=365)
LONGEST_SECONDS = 5.0  # a sampler that stood still did not see who held what
JOULES_PER_KWH = 3.6e6
OTHERS = "others, or idle"


@dataclass(kw_only=True)
class Use:
    """`session` is None for all that no session of this server did."""

    session: TrainingSession | None
    name: str
    seconds: float
    kwh: float | None


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
        hour = timezone.now().replace(minute=0, second=0, microsecond=0)
        collected, self._open = self._open, {}
        for (uuid, session), (seconds, joules) in collected.items():
            row, _ = GpuUse.objects.get_or_create(uuid=uuid, hour=hour, session=session)
            values = {"seconds": F("seconds") + seconds}
            if joules is not None:
                start = Coalesce(F("joules"), Value(0.0), output_field=FloatField())
                values["joules"] = start + joules
            GpuUse.objects.filter(pk=row.pk).update(**values)


def read_use(uuid: str, start: datetime) -> list[Use]:
    """Since the hour of `start`; who took most first, what no session did last."""
    rows = list(
        _since(uuid, start).values("session").annotate(seconds=Sum("seconds"), joules=Sum("joules"))
    )
    known = TrainingSession.objects.select_related("job__owner").in_bulk(
        [row["session"] for row in rows]
    )
    found = [_use(row["session"], row["seconds"], row["joules"], known) for row in rows]
    return sorted(found, key=lambda use: (use.name == OTHERS, -(use.kwh or 0), -use.seconds))


def read_days(uuid: str, start: datetime) -> list[tuple[date, float]]:
    """kWh of each day (UTC) on which energy was counted, the newest first."""
    rows = _since(uuid, start).filter(joules__isnull=False).annotate(day=TruncDate("hour"))
    days = rows.values("day").annotate(joules=Sum("joules")).order_by("-day")
    return [(row["day"], row["joules"] / JOULES_PER_KWH) for row in days]


def prune_use(now: datetime) -> int:
    return delete_in_batches(GpuUse.objects.filter(hour__lt=now - KEPT))


def _since(uuid: str, start: datetime) -> QuerySet[GpuUse]:
    hour = start.replace(minute=0, second=0, microsecond=0)
    return GpuUse.objects.filter(uuid=uuid, hour__gte=hour).order_by()


def _use(
    session: str, seconds: float, joules: float | None, known: dict[str, TrainingSession]
) -> Use:
    found = known.get(session)
    name = found.title if found else session  # a session that was deleted keeps its id here
    return Use(
        session=found,
        name=OTHERS if session == NOBODY else name,
        seconds=seconds,
        kwh=None if joules is None else joules / JOULES_PER_KWH,
    )
