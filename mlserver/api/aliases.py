"""Root paths of the written documents that lead to /api/v1: the one table of them.

A middleware, the outermost: everything behind it (limits, roles, logs) sees one address.
"""

from __future__ import annotations

from django.http import HttpRequest

from mlserver.api.around import around
from mlserver.api.negotiation import wants_html

API = "/api/v1"
# First word of the path → whether there are pages of the same path. Pages are for those who
# name text/html: browsers do, curl and HTTP libraries do not.
ALIASES = {"jobs": False, "models": True, "predict": False, "training": False}


def _lead(request: HttpRequest) -> None:
    first = request.path_info.lstrip("/").partition("/")[0]
    has_pages = ALIASES.get(first)
    if has_pages is None or (has_pages and _wants_page(request)):
        return
    request.path = request.path.removesuffix(request.path_info) + API + request.path_info
    request.path_info = API + request.path_info


def _wants_page(request: HttpRequest) -> bool:
    """htmx renews parts of a page without naming what it accepts."""
    return wants_html(request) or "HX-Request" in request.headers


root_aliases = around(before=_lead)
