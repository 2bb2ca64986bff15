"""Reads what a job said of itself, page by page."""

from django.db.models import QuerySet

from jobs.models import LogLine

SEVERITY = list(LogLine.Level)


def read_log(
    job_id: str, *, after: int = 0, limit: int = 1000, level: str | None = None
) -> QuerySet[LogLine]:
    """At most `limit` lines with an id above `after`, of `level` or worse, oldest first."""
    lines = LogLine.objects.filter(job_id=job_id, id__gt=after).order_by("id")
    if level is not None:
        worse = SEVERITY[SEVERITY.index(LogLine.Level(level)) :]
        lines = lines.filter(level__in=worse)
    return lines[:limit]


def as_text(lines: QuerySet[LogLine]) -> str:
    """One record a line, whatever it holds."""
    return "".join(
        f"{line.timestamp:%Y-%m-%dT%H:%M:%S.%fZ} {line.level.upper():7} {_flat(line.message)}\n"
        for line in lines
    )


def _flat(message: str) -> str:
    return message.replace("\r", "\\r").replace("\n", "\\n")
