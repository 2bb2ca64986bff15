"""Who may do what with a model: all read, the owner or an admin changes."""

from django.contrib.auth.models import AnonymousUser, User

from mlserver.api.permissions import may_change
from mlserver.lib.errors import Forbidden
from models_registry.models import RegisteredModel


def can_change(user: User | AnonymousUser, model: RegisteredModel) -> bool:
    return may_change(user, model.owner_id)


def require_change(user: User | AnonymousUser, model: RegisteredModel) -> None:
    if not can_change(user, model):
        owner = model.owner.username if model.owner else "nobody"
        raise Forbidden(f"{model.name} belongs to {owner}; only the owner or an admin changes it.")
