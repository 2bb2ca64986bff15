"""Root paths of the written documents that lead to /api/v1: the one table of them.

A middleware, the outermost: everything behind it (limits, roles, logs) sees one address.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.utils.decorators import sync_and_async_middleware

from mlserver.api.negotiation import wants_html

API = "/api/v1"
# First word of the path → whether there are pages of the same path. Pages are for those who
# name text/html: browsers do, curl and HTTP libraries do not.
ALIASES = {"jobs": False, "models": True, "training": False}

Answer = Callable[[HttpRequest], Any]


@sync_and_async_middleware
def root_aliases(get_response: Answer) -> Answer:
    if iscoroutinefunction(get_response):

        async def answer_async(request: HttpRequest) -> Any:
            return await get_response(_lead(request))

        return answer_async

    def answer(request: HttpRequest) -> Any:
        return get_response(_lead(request))

    return answer


def _lead(request: HttpRequest) -> HttpRequest:
    first = request.path_info.lstrip("/").partition("/")[0]
    has_pages = ALIASES.get(first)
    if has_pages is None or (has_pages and _wants_page(request)):
        return request
    request.path = request.path.removesuffix(request.path_info) + API + request.path_info
    request.path_info = API + request.path_info
    return request


def _wants_page(request: HttpRequest) -> bool:
    """htmx renews parts of a page without naming what it accepts."""
    return wants_html(request) or "HX-Request" in request.headers
