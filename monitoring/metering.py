"""Counts requests and errors, for all web processes together.

Each process counts in files of its own under METRICS_DIR; whoever is asked for /metrics adds
all of them up. `serve` begins with an empty folder.
"""

from __future__ import annotations

import re
from functools import cache

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from prometheus_client import CollectorRegistry, Counter, Histogram

import inference.metering
from inference.plane.application import Exchange
from mlserver.api.around import around
from mlserver.api.errors import CODES

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
GROUP = re.compile(r"\(\?P<(\w+)>(?:[^()]|\([^()]*\))*\)|<(?:\w+:)?(\w+)>")
CLUTTER = re.compile(r"[\^$]|/\?|\\Z|\\")

_own = CollectorRegistry()  # never asked: the files are read instead
requests = Counter(
    "http_requests", "Requests answered.", ["method", "route", "status"], registry=_own
)
durations = Histogram(
    "http_request_duration_seconds",
    "Time until the answer, or until a stream began.",
    ["method", "route"],
    buckets=BUCKETS,
    registry=_own,
)
errors = Counter(
    "errors",
    "Answers that were errors, by their stable word.",
    ["error_type", "endpoint"],
    registry=_own,
)
# To find what to count in would take as long again as to count.
_requests_of, _durations_of = cache(requests.labels), cache(durations.labels)
HELP = {
    **inference.metering.HELP,
    "http_requests": "Requests answered.",
    "http_request_duration_seconds": "Time until the answer, or until a stream began.",
    "errors": "Answers that were errors, by their stable word.",
}


def _count(request: HttpRequest, response: HttpResponseBase, seconds: float) -> None:
    method = request.method if request.method in METHODS else "OTHER"
    _add(method or "", name_route(request), response.status_code, seconds)


def count_exchange(exchange: Exchange) -> None:
    """What the data plane of inference answered."""
    _add(exchange.route.method, exchange.route.name, exchange.status, exchange.seconds)


def _add(method: str, route: str, status: int, seconds: float) -> None:
    _requests_of(method, route, str(status)).inc()
    _durations_of(method, route).observe(seconds)
    if status >= 400:
        errors.labels(CODES.get(status, "error"), route).inc()


count_requests = around(after=_count)


def name_route(request: HttpRequest) -> str:
    """The pattern, never the address: every label value is kept for ever."""
    if request.resolver_match is None:
        return "static" if request.path.startswith(settings.STATIC_URL) else "unmatched"
    route = GROUP.sub(lambda found: f"{{{found[1] or found[2]}}}", request.resolver_match.route)
    return "/" + CLUTTER.sub("", route).lstrip("/")


def forget_counts() -> None:
    """Before the first web process starts: what ended processes counted is history."""
    for path in settings.METRICS_DIR.glob("*.db"):
        path.unlink(missing_ok=True)
