"""`manage.py prune`: what is too old is forgotten, what people made is not."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.utils import timezone
from pytest_django import Settings

from accounts.models import AuditEntry, AuthLog
from accounts.services import record_attempt
from datasets.statistics import KIND
from jobs.models import Job, State
from mlserver.lib.batches import BATCH
from monitoring.models import GpuUse, HostSample
from sessions.models import TrainingSession
from tests import factories
from tests.monitoring.rows import host_sample

pytestmark = pytest.mark.django_db

LONG_AGO = timezone.now() - timedelta(days=400)


def prune() -> dict[str, int]:
    out = StringIO()
    call_command("prune", "--json", stdout=out)
    counts: dict[str, int] = json.loads(out.getvalue())
    return counts


def test_attempts_are_kept_as_long_as_the_setting_says(settings: Settings) -> None:
    for _ in range(BATCH + 3):
        record_attempt(success=True, endpoint="/old")
    AuthLog.objects.update(timestamp=timezone.now() - timedelta(days=31))
    record_attempt(success=True, endpoint="/new")
    for days in (0, 32):
        settings.AUTH_LOG_DAYS = days
        assert prune()["attempts"] == 0
    settings.AUTH_LOG_DAYS = 30
    assert prune()["attempts"] == BATCH + 3
    assert AuthLog.objects.get().endpoint == "/new"


def test_errands_that_are_done_are_forgotten_and_sessions_never(settings: Settings) -> None:
    settings.JOB_RETENTION_HOURS = 24
    done = {"kind": KIND, "state": State.COMPLETED}
    factories.job(**done, finished_at=timezone.now() - timedelta(hours=25))
    recent = factories.job(**done, finished_at=timezone.now() - timedelta(hours=23))
    failed = factories.job(kind=KIND, state=State.FAILED, finished_at=LONG_AGO)
    session = factories.session(state=State.COMPLETED, finished_at=LONG_AGO)

    assert prune()["statistics_jobs"] == 1
    assert set(Job.objects.values_list("pk", flat=True)) == {recent.pk, failed.pk, session.pk}
    assert TrainingSession.objects.exists()
    settings.JOB_RETENTION_HOURS = 0
    Job.objects.filter(pk=recent.pk).update(finished_at=LONG_AGO)
    assert prune()["statistics_jobs"] == 0


def test_readings_go_and_the_audit_stays(owner: User) -> None:
    host_sample(timestamp=LONG_AGO)
    GpuUse.objects.create(uuid="GPU-1", hour=LONG_AGO)
    AuditEntry.objects.create(action="key.create", timestamp=LONG_AGO)

    assert prune()["readings"] == 2
    assert not HostSample.objects.exists()
    assert AuditEntry.objects.exists()


def test_it_tells_people_in_words() -> None:
    out = StringIO()
    call_command("prune", stdout=out)
    assert "0 deleted datasets" in out.getvalue()
