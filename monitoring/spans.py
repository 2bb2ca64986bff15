"""Which time is asked for: `range=1h` up to now, or `start=…&end=…`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from mlserver.lib.errors import FieldError, Invalid
from monitoring.series import RANGES


@dataclass(frozen=True, kw_only=True)
class Span:
    """`label` is a key of RANGES, or None for a start and an end of one's own."""

    label: str | None
    start: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        return (self.end - self.start).total_seconds()

    @property
    def query(self) -> str:
        """As an address asks for it."""
        if self.label:
            return urlencode({"range": self.label})
        return urlencode({"start": self.start.isoformat(), "end": self.end.isoformat()})


def read_span(query: Mapping[str, str], default: str) -> Span:
    """Raises Invalid for what is no range or no time, and for an end before its start."""
    start, end = _read_time(query, "start"), _read_time(query, "end") or timezone.now()
    if start is None:
        label = query.get("range", default)
        if label not in RANGES:
            raise _refuse("range", f"must be one of {', '.join(RANGES)}", label)
        return Span(label=label, start=end - RANGES[label], end=end)
    if start >= end:
        raise _refuse("start", "must be before end", query["start"])
    return Span(label=None, start=start, end=end)


def _read_time(query: Mapping[str, str], field: str) -> datetime | None:
    text = query.get(field, "")
    if not text:
        return None
    try:
        moment = parse_datetime(text.replace(" ", "+"))  # a plus that was not encoded
    except ValueError:
        moment = None
    if moment is None:
        raise _refuse(field, "must be a time such as 2026-01-06T10:30:00Z", text)
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.get_current_timezone())


def _refuse(field: str, message: str, value: str) -> Invalid:
    error = FieldError(field=field, message=f"{field} {message}", value=value)
    return Invalid(f"{field} {message}", errors=[error])
