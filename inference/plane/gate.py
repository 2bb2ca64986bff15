"""Who comes in: decided by Django's own middleware and the endpoint's DRF view, remembered for a
second.

The rules stand in one place: what is asked here is the chain that guards every other endpoint
(hosts, proxies, sessions, CORS, rate limit, keys, scopes, roles, the log of attempts). A caller
whom it lets in is known by the headers it looked at, so the next requests need no database; after
half a second they are looked up again behind the scenes. Refusals are never remembered.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from asgiref.typing import HTTPScope
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string
from rest_framework.request import Request

from accounts.middleware import bucket_of, is_counted
from accounts.models import AuthLog
from accounts.ratelimit import Limit
from inference.plane.threads import in_thread
from mlserver.api.errors import problem_response
from mlserver.lib.errors import Unavailable

SECONDS = 1.0
"""No change of a key, a role or a network takes longer to count."""
RENEW_SECONDS = 0.5
MOST_CALLERS = 10_000

RATE_LIMIT = "accounts.middleware.RateLimit"
NOT_HERE = {
    # The plane counts and logs what it answers.
    "monitoring.metering.count_requests",
    "mlserver.api.request_log.log_requests",
    # These answer with files.
    "mlserver.api.compression.compress_static",
    "servestatic.middleware.ServeStaticMiddleware",
}
LOOKED_AT = frozenset(
    {
        b"authorization",
        b"cookie",
        b"forwarded",
        b"host",
        b"origin",
        b"referer",
        b"x-api-key",
        b"x-csrftoken",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-real-ip",
    }
)
"""Every header that the chain decides by; what is missing here would be decided for others."""
OF_THE_BODY = frozenset({b"content-length", b"content-type", b"transfer-encoding"})
"""The chain sees a request without one: the plane has not read it yet."""
OWN_HEADERS = {
    "content-length",
    "content-type",
    "retry-after",
    "x-process-time",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-request-id",
}

Fingerprint = tuple[Any, ...]
View = Callable[..., HttpResponseBase]


@dataclass(kw_only=True, slots=True)
class Caller:
    """Somebody who may ask this address."""

    user: Any
    path: str
    """As /api/v1 has it, whichever alias was asked."""
    address: str | None
    key_prefix: str
    attempt: AuthLog | None
    """What the log of attempts says of each request; None: a login in a browser, or nobody."""
    bucket: tuple[str, Limit] | None
    """None: requests are not counted."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Those of every answer: of CORS and security."""
    renew_at: float = 0.0
    until: float = 0.0


class Admitted(HttpResponse):
    """What the view of such an endpoint answers to those who may come in.

    Only a server without the data plane would show it to anybody.
    """

    caller: Caller


def admit(request: Request) -> Admitted:
    """The end of the chain: who that is, for the plane."""
    plain: Any = request._request
    refusal = Unavailable("This endpoint is answered by mlserver.asgi; serve that application.")
    problem = problem_response(plain, refusal)
    answer = Admitted(problem.content, status=problem.status_code, headers=problem.headers)
    answer.caller = Caller(
        user=request.user,
        path=plain.path,
        address=plain.META.get("REMOTE_ADDR"),
        key_prefix=getattr(request.auth, "prefix", ""),
        attempt=getattr(plain, "success", None),
        bucket=bucket_of(plain) if is_counted(plain.path) else None,
    )
    return answer


class Gate:
    """For one event loop."""

    def __init__(self) -> None:
        self._callers: OrderedDict[Fingerprint, Caller] = OrderedDict()
        self._renewals: set[asyncio.Task[None]] = set()

    def recall(self, fingerprint: Fingerprint, scope: HTTPScope, view: View) -> Caller | None:
        """A caller known from a moment ago; None: `ask`."""
        caller = self._callers.get(fingerprint)
        now = time.monotonic()
        if caller is None or now >= caller.until:
            return None
        if now >= caller.renew_at:
            caller.renew_at = caller.until
            renewal = asyncio.create_task(self._renew(fingerprint, scope, view))
            self._renewals.add(renewal)
            renewal.add_done_callback(self._renewals.discard)
        return caller

    async def ask(
        self, fingerprint: Fingerprint, scope: HTTPScope, view: View
    ) -> tuple[Caller | None, HttpResponse]:
        """One request through the chain: counted, and refused where it is to be."""
        started = time.monotonic()
        answer = await in_thread(_pass, scope, view)
        return self._remember(fingerprint, answer, started), answer

    async def _renew(self, fingerprint: Fingerprint, scope: HTTPScope, view: View) -> None:
        started = time.monotonic()
        answer = await in_thread(_pass, scope, view, is_rehearsal=True)
        if self._remember(fingerprint, answer, started) is None:
            self._callers.pop(fingerprint, None)

    def _remember(
        self, fingerprint: Fingerprint, answer: HttpResponse, started: float
    ) -> Caller | None:
        if not isinstance(answer, Admitted):
            return None
        caller = answer.caller
        caller.headers = tuple(
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in answer.items()
            if name.lower() not in OWN_HEADERS
        )
        caller.renew_at, caller.until = started + RENEW_SECONDS, started + SECONDS
        self._callers[fingerprint] = caller
        self._callers.move_to_end(fingerprint)
        if len(self._callers) > MOST_CALLERS:
            self._callers.popitem(last=False)
        return caller


def fingerprint_of(scope: Mapping[str, Any]) -> Fingerprint:
    """Whatever the chain decides by."""
    client = scope.get("client")
    return (
        scope["method"],
        scope["path"],
        scope["query_string"],
        client[0] if client else None,
        *(header for header in scope["headers"] if header[0] in LOOKED_AT),
    )


def _pass(scope: HTTPScope, view: View, *, is_rehearsal: bool = False) -> HttpResponse:
    """In a thread. A rehearsal counts as no request and as no attempt."""
    headers = [header for header in scope["headers"] if header[0] not in OF_THE_BODY]
    request: Any = ASGIRequest({**scope, "headers": headers}, io.BytesIO())

    def keep_attempt(attempt: AuthLog) -> None:
        if attempt.success:
            request.success = attempt
        elif not is_rehearsal:
            attempt.save()

    request.keep_attempt = keep_attempt
    answer: HttpResponse = _chain(view, is_rehearsal)(request)
    return answer


@cache
def _chain(view: View, is_rehearsal: bool) -> Any:
    """Django's middleware around the view."""
    left_out = {*NOT_HERE, RATE_LIMIT} if is_rehearsal else NOT_HERE
    chain: Any = convert_exception_to_response(view)
    for name in reversed(settings.MIDDLEWARE):
        if name not in left_out:
            chain = convert_exception_to_response(import_string(name)(chain))
    return chain
