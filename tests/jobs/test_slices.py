"""Slices that raise: noted, tried again, and ended before they keep a seat for ever."""

import pytest
from pytest_django import Settings

from jobs import services
from jobs.leases import Lease
from jobs.models import Job, LogLine, State
from tests import factories

pytestmark = pytest.mark.django_db

abandoned: list[str] = []


def raise_always(lease: Lease) -> bool:
    raise OSError("the disk does not answer")


def go_on(lease: Lease) -> bool:
    return True


def abandon(job: Job) -> None:
    abandoned.append(job.pk)


def use(settings: Settings, work: str) -> None:
    how = {"slice": f"{__name__}.{work}", "abandon": f"{__name__}.abandon"}
    settings.JOB_KINDS = {"train": {**settings.JOB_KINDS["train"], **how}}


@pytest.fixture
def job() -> Job:
    abandoned.clear()
    return factories.job(state=State.RUNNING, attempt=1)


def stumble(job: Job, times: int) -> Job:
    for _ in range(times):
        with pytest.raises(OSError, match="does not answer"):
            services.run_slice(job.pk)
    job.refresh_from_db()
    return job


def test_a_slice_that_raises_is_told_in_the_log_and_can_be_taken_again(
    settings: Settings, job: Job
) -> None:
    use(settings, "raise_always")
    stumble(job, 2)
    assert (job.state, job.stumbles, job.lease_owner) == (State.RUNNING, 2, "")
    lines = LogLine.objects.filter(job=job, level="error")
    assert lines.count() == 2
    assert "the disk does not answer" in lines[0].message


def test_what_never_goes_well_gives_its_seat_back(settings: Settings, job: Job) -> None:
    use(settings, "raise_always")
    stumble(job, services.MOST_STUMBLES)
    assert (job.state, job.error_code) == (State.FAILED, "unsupervised")
    assert "the disk does not answer" in job.error
    assert abandoned == [job.pk]


def test_one_slice_that_goes_well_forgives_the_others(settings: Settings, job: Job) -> None:
    use(settings, "raise_always")
    stumble(job, services.MOST_STUMBLES - 1)
    use(settings, "go_on")
    services.run_slice(job.pk)
    job.refresh_from_db()
    assert job.stumbles == 0
    use(settings, "raise_always")
    assert stumble(job, 1).state == State.RUNNING
