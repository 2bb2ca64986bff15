"""Reads the dense series of a session, reduced so that no spike is lost."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from django.db.models import Avg, Count, F, Max, Min

from sessions.models import MetricPoint, TrainingSession


@dataclass(frozen=True)
class Series:
    """Steps with their values and times (Unix seconds). Where it was reduced, a value is the
    mean of a bucket, step and time are its last, and `minimum`/`maximum` its extremes; else
    these are None."""

    steps: list[int]
    values: list[float | None]
    times: list[float]
    minimum: list[float | None] | None = None
    maximum: list[float | None] | None = None


def list_keys(session: TrainingSession) -> list[str]:
    keys = MetricPoint.objects.filter(session=session).order_by("key").values_list("key")
    return [key for (key,) in keys.distinct()]


def read_series(
    session: TrainingSession, key: str, *, after: int = 0, max_points: int = 1000
) -> Series:
    """The points after step `after`, at most `max_points` of them."""
    points = MetricPoint.objects.filter(session=session, key=key, step__gt=after)
    span = points.aggregate(count=Count("id"), first=Min("step"), last=Max("step"))
    if span["count"] <= max_points:
        rows = list(points.order_by("step").values_list("step", "value", "timestamp"))
        steps, values, moments = map(list, zip(*rows, strict=True)) if rows else ([], [], [])
        return Series(steps, values, [moment.timestamp() for moment in moments])
    width = ceil((span["last"] - span["first"] + 1) / max_points)
    buckets = (
        points.annotate(bucket=(F("step") - span["first"]) / width)
        .values("bucket")
        .annotate(
            last=Max("step"),
            mean=Avg("value"),
            at=Max("timestamp"),
            low=Min("value"),
            high=Max("value"),
        )
        .order_by("bucket")
        .values_list("last", "mean", "at", "low", "high")
    )
    steps, means, moments, lows, highs = (list(column) for column in zip(*buckets, strict=True))
    return Series(steps, means, [moment.timestamp() for moment in moments], lows, highs)


def find_not_finite(session: TrainingSession) -> tuple[str, int] | None:
    """Series and step at which it left the numbers: null is stored for NaN and infinity.

    None unless that ended it: with fp16 an infinite gradient now and then is normal.
    """
    if session.job.error_code != "diverged":
        return None
    lost = MetricPoint.objects.filter(session=session, value=None).order_by("-step", "-key")
    last = lost.values_list("key", "step").first()
    return None if last is None else (last[0], last[1])
