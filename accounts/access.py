"""Who may see and change which key: one's own, an admin all; a new secret only its owner gets."""

from typing import Any

from django.db.models import Q, QuerySet

from accounts.models import ApiKey, AuditEntry, AuthLog
from mlserver.api.permissions import ADMIN, has_role, may_change

PRIVATE = ("key", "user", "group")


def visible_keys(user: Any) -> QuerySet[ApiKey]:
    keys = ApiKey.objects.select_related("user").prefetch_related("user__groups")
    return keys if has_role(user, ADMIN) else keys.filter(user_id=user.pk)


def visible_attempts(user: Any) -> QuerySet[AuthLog]:
    attempts = AuthLog.objects.select_related("user")
    return attempts if has_role(user, ADMIN) else attempts.filter(user_id=user.pk)


def visible_entries(user: Any) -> QuerySet[AuditEntry]:
    """All see what happens to sessions, datasets and models; keys and people are private."""
    entries = AuditEntry.objects.all()
    if has_role(user, ADMIN):
        return entries
    return entries.filter(~Q(object_type__in=PRIVATE) | Q(user_id=user.pk))


def can_change(user: Any, key: ApiKey) -> bool:
    return may_change(user, key.user_id)


def can_rotate(user: Any, key: ApiKey) -> bool:
    """Not even an admin: whoever holds the new secret acts under the owner's name."""
    return can_change(user, key) and key.user_id == user.pk
