"""Where things come from, as links; and what changed, as sizes without their sign."""

import re
from typing import Any
from urllib.parse import quote

from django import template

from mlserver.templatetags.display import sig3

register = template.Library()

_REFERENCE = re.compile(r"(?P<name>[^@/]+)@(?P<number>[0-9]{1,9})", re.ASCII)


@register.filter
def dataset_path(reference: Any) -> str:
    """The page of the very version that `iris@2` names; of the newest for `iris`."""
    found = _REFERENCE.fullmatch(str(reference))
    if found is None:
        return f"/datasets/{quote(str(reference), safe='')}/"
    return f"/datasets/{quote(found['name'], safe='')}/?v={found['number']}"


@register.filter
def magnitude(change: float | None) -> str:
    """The sign is written by hand, as a minus and not as a dash."""
    return sig3(None if change is None else abs(change))
