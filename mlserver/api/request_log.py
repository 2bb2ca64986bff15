"""One log line a request: who, where to, how it ended, how long it took. No query: it may
hold what is nobody's business."""

from __future__ import annotations

import logging

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from mlserver.api.around import around

logger = logging.getLogger("mlserver.requests")

# Asked every few seconds by machines; with LOG_LEVEL=DEBUG they are told, too.
QUIET = ("/health", "/static/", "/metrics")


def _tell(request: HttpRequest, response: HttpResponseBase, seconds: float) -> None:
    match = request.resolver_match
    facts = {
        "method": request.method,
        "path": request.path,
        "route": match.route if match else None,
        "status": response.status_code,
        "ms": round(1000 * seconds, 1),
    }
    logger.log(_level(request.path, response.status_code), "request", extra=facts)


def _level(path: str, status: int) -> int:
    if path.startswith(QUIET) and status != 500:  # 503 of /health/ready is an answer, no fault
        return logging.DEBUG
    return logging.INFO if status < 500 else logging.WARNING


# Stands inside `request_id`, whose id and key every record of a request carries.
log_requests = around(after=_tell)
