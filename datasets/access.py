"""Who may do what with a dataset: all read, the owner or an admin changes."""

from django.contrib.auth.models import AnonymousUser, User

from datasets.models import Dataset
from mlserver.api.permissions import may_change
from mlserver.lib.errors import Forbidden


def can_change(user: User | AnonymousUser, dataset: Dataset) -> bool:
    return may_change(user, dataset.owner_id)


def require_change(user: User | AnonymousUser, dataset: Dataset) -> None:
    if can_change(user, dataset):
        return
    owner = dataset.owner.username if dataset.owner else "the server"
    raise Forbidden(
        f"{dataset.name} belongs to {owner}; only its owner or an admin changes it."
        " Upload under another name."
    )
