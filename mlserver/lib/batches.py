"""Many rows in small steps: each a short write lock, also after a long pause."""

from typing import Any

from django.db.models import QuerySet

BATCH = 500


def delete_in_batches(old: "QuerySet[Any]") -> int:
    """Returns how many rows are gone, without those that went along with them."""
    count = 0
    while batch := list(old.order_by("pk").values_list("pk", flat=True)[:BATCH]):
        old.model._default_manager.filter(pk__in=batch).delete()
        count += len(batch)
    return count
