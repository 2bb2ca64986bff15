"""The traceback of a trainer that failed: from the end of its stderr into the log of its job."""

from __future__ import annotations

from pathlib import Path

from jobs import services as jobs
from jobs.models import LogLine
from ml.rundir import RunDir

TAIL_BYTES = 64 * 1024
BEGINNINGS = ("Traceback (most recent call last):", "Fatal Python error:")


def log_traceback(job_id: str, run: RunDir, attempt: int) -> None:
    """One line of the log, whose message has many; nothing when nothing was written."""
    if found := read_traceback(run.attempt_path(attempt) / "stderr.log"):
        jobs.log(job_id, found, LogLine.Level.ERROR)


def read_traceback(path: Path) -> str:
    """The last one in the file, from its first line to the end of the file."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - TAIL_BYTES))
            text = stream.read().decode(errors="replace").replace("\0", "")
    except FileNotFoundError:
        return ""
    start = max(text.rfind(beginning) for beginning in BEGINNINGS)
    return text[start:].strip() if start >= 0 else ""
