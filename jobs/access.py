"""Who may do what with a job: all read, the owner or an admin changes."""

from django.contrib.auth.models import AnonymousUser, User

from jobs.models import Job
from mlserver.api.permissions import may_change


def can_change(user: User | AnonymousUser, job: Job) -> bool:
    return may_change(user, job.owner_id)
