"""How many examples a property gets, clients for people, work that ends at once."""

from collections.abc import Callable
from typing import TypeVar

from django.contrib.auth.models import User
from hypothesis import HealthCheck, settings
from rest_framework.test import APIClient

from jobs import services as jobs
from jobs.leases import Lease
from jobs.models import Job

Test = TypeVar("Test", bound=Callable[..., None])


def examples(count: int) -> Callable[[Test], Test]:
    """The fixtures of a test are made once; each example cleans up what it counts."""
    return settings(
        max_examples=count,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def client(user: User | None = None) -> APIClient:
    api = APIClient()
    if user is not None:
        api.force_authenticate(user)
    return api


def end_at_once(lease: Lease) -> bool:
    """A slice of work: it ends as its job was told to."""
    job = Job.objects.get(pk=lease.job_id)
    assert jobs.end_job(job, job.spec["ends"], sentence="So it ended.")
    return False
