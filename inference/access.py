"""Who may do what with a model in memory: operators load, who loaded it or an admin unloads."""

from django.contrib.auth.models import AnonymousUser, User

from inference.models import LoadedModel
from mlserver.api.permissions import may_change
from mlserver.lib.errors import Forbidden


def require_change(user: User | AnonymousUser, loaded: LoadedModel) -> None:
    if not may_change(user, loaded.owner_id):
        owner = loaded.owner.username if loaded.owner else "nobody"
        raise Forbidden(f"{loaded} was loaded by {owner}; only they or an admin change that.")
