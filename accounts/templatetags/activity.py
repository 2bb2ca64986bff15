"""`{% activity "session" session.pk %}`: what was done to an object, at the end of its page.

Parts of it count, too: `{% activity "model,model_version" model.name %}` finds `name@2`.
"""

from __future__ import annotations

from typing import Any

from django import template
from django.db.models import Q

from accounts.access import visible_entries

register = template.Library()

SHOWN = 10


@register.inclusion_tag("parts/activity.html", takes_context=True)
def activity(context: dict[str, Any], object_types: str, object_id: Any) -> dict[str, Any]:
    user = context["request"].user
    if not user.is_authenticated:
        return {"entries": []}
    rows = visible_entries(user).filter(
        Q(object_id=str(object_id)) | Q(object_id__startswith=f"{object_id}@"),
        object_type__in=object_types.split(","),
    )
    entries = list(rows[: SHOWN + 1])
    return {
        "entries": entries[:SHOWN],
        "has_more": len(entries) > SHOWN,
        "object_id": object_id,
    }


@register.filter
def changes(entry: Any) -> list[tuple[str, Any, Any]]:
    """Name, before, after: of everything that the entry tells."""
    names = list(dict.fromkeys([*entry.before, *entry.after]))
    return [(name, _read(entry.before.get(name)), _read(entry.after.get(name))) for name in names]


def _read(value: Any) -> Any:
    return (", ".join(map(str, value)) or "none") if isinstance(value, list) else value
