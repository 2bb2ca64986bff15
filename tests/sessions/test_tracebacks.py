"""What a failed trainer wrote to stderr comes into the log of its job."""

from pathlib import Path

import pytest

from jobs import services as jobs
from jobs.leases import Lease
from jobs.models import LogLine, State
from ml.rundir import RunDir
from sessions.tracebacks import log_traceback, read_traceback
from tests import factories

TRACE = 'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: no'


def test_the_last_traceback_is_found_behind_other_output(tmp_path: Path) -> None:
    path = tmp_path / "stderr.log"
    path.write_bytes(b"\xff warning\n" * 20_000 + b"Traceback (most recent call last):\nOldError\n")
    path.write_bytes(path.read_bytes() + TRACE.encode() + b"\n")
    assert read_traceback(path) == TRACE


@pytest.mark.parametrize("text", ["", "only a warning\n"])
def test_output_without_a_traceback_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "stderr.log").write_text(text)
    assert read_traceback(tmp_path / "stderr.log") == ""
    assert read_traceback(tmp_path / "absent") == ""


@pytest.mark.django_db
def test_it_is_one_line_of_the_jobs_log(tmp_path: Path) -> None:
    job = factories.job()
    run = RunDir(tmp_path)
    run.attempt_path(1).mkdir(parents=True)
    (run.attempt_path(1) / "stderr.log").write_text(TRACE)
    log_traceback(job.pk, run, 1)
    log_traceback(job.pk, run, 2)
    line = LogLine.objects.get()
    assert (line.level, line.message) == ("error", TRACE)


def _break(lease: Lease) -> bool:
    raise ZeroDivisionError("inside the slice")


@pytest.mark.django_db
def test_work_that_raises_inside_the_worker_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    job = factories.job(state=State.RUNNING, attempt=1)
    monkeypatch.setattr(jobs, "import_string", lambda path: _break)
    with pytest.raises(ZeroDivisionError):
        jobs.run_slice(job.pk)
    assert "ZeroDivisionError: inside the slice" in LogLine.objects.get().message
    job.refresh_from_db()
    assert job.lease_owner == ""
