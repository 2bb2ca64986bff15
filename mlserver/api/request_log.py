"""One log line a request: who, where to, how it ended, how long it took. No query: it may
hold what is nobody's business."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

logger = logging.getLogger("mlserver.requests")

# Asked every few seconds by machines; with LOG_LEVEL=DEBUG they are told, too.
QUIET = ("/health", "/static/", "/metrics")

Answer = Callable[[HttpRequest], Any]


@sync_and_async_middleware
def log_requests(get_response: Answer) -> Answer:
    """Stands inside `request_id`, whose id and key every record of a request carries."""
    if iscoroutinefunction(get_response):

        async def answer_async(request: HttpRequest) -> HttpResponseBase:
            started = time.perf_counter()
            return _tell(request, await get_response(request), started)

        return answer_async

    def answer(request: HttpRequest) -> HttpResponseBase:
        started = time.perf_counter()
        return _tell(request, get_response(request), started)

    return answer


def _tell(request: HttpRequest, response: HttpResponseBase, started: float) -> HttpResponseBase:
    match = request.resolver_match
    facts = {
        "method": request.method,
        "path": request.path,
        "route": match.route if match else None,
        "status": response.status_code,
        "ms": round(1000 * (time.perf_counter() - started), 1),
    }
    logger.log(_level(request.path, response.status_code), "request", extra=facts)
    return response


def _level(path: str, status: int) -> int:
    if path.startswith(QUIET) and status != 500:  # 503 of /health/ready is an answer, no fault
        return logging.DEBUG
    return logging.INFO if status < 500 else logging.WARNING
