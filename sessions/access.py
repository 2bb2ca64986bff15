"""Who may do what with a training session: all read, the owner or an admin changes."""

from django.contrib.auth.models import AnonymousUser, User

from mlserver.api.permissions import may_change
from sessions.models import TrainingSession


def can_change(user: User | AnonymousUser, session: TrainingSession) -> bool:
    return may_change(user, session.job.owner_id)
