from datetime import timedelta

import pytest
from django.utils import timezone

from jobs.leases import Lease, LeaseLost
from jobs.models import Job, State
from tests import factories

pytestmark = pytest.mark.django_db


def running(**values: object) -> Job:
    return factories.job(state=State.RUNNING, attempt=1, **values)


def test_only_one_of_two_supervisors_gets_a_free_job() -> None:
    job = running(lease_until=timezone.now() + timedelta(seconds=10))
    assert Job.objects.take_lease(job.pk, "first")
    assert not Job.objects.take_lease(job.pk, "second")


def test_a_lease_that_ran_out_can_be_taken_and_the_old_holder_writes_nothing() -> None:
    job = running(lease_owner="old", lease_until=timezone.now() - timedelta(seconds=1))
    assert list(Job.objects.abandoned()) == [job]
    assert Job.objects.take_lease(job.pk, "new")
    with pytest.raises(LeaseLost):
        Lease(job.pk, 1, "old").write(progress=50)
    Lease(job.pk, 1, "new").write(progress=60)
    job.refresh_from_db()
    assert job.progress == 60


def test_a_released_lease_is_free_at_once() -> None:
    job = running()
    assert Job.objects.take_lease(job.pk, "first")
    Lease(job.pk, 1, "first").release()
    assert Job.objects.take_lease(job.pk, "second")


def test_a_write_for_an_older_attempt_is_refused() -> None:
    job = running(lease_owner="me", lease_until=timezone.now() + timedelta(seconds=10))
    with pytest.raises(LeaseLost):
        Lease(job.pk, 0, "me").write(progress=50)


def test_a_job_that_is_not_running_has_no_lease_to_take() -> None:
    job = factories.job()
    assert not Job.objects.take_lease(job.pk, "me")
