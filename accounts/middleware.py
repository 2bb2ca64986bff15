"""Requests of the API are counted, per key, else per person, else per address.

Comes before the view, so that a refusal costs a few reads and writes nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from accounts.authentication import examine_request
from accounts.ratelimit import Limit, Verdict, take
from mlserver.api.errors import as_app_error, problem_response
from mlserver.api.proxies import parse_address
from mlserver.lib.errors import AppError
from mlserver.lib.origin import API_PREFIXES

Answer = Callable[[HttpRequest], Any]


class TooManyRequests(AppError):
    status = 429
    code = "rate_limited"

    def __init__(self, verdict: Verdict) -> None:
        limit = verdict.limit
        self.retry_after_seconds = verdict.retry_after_seconds
        super().__init__(
            f"More than {limit.requests} requests in {limit.period} seconds; "
            f"try again in {verdict.retry_after_seconds} s."
        )


class RateLimit:
    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if not is_counted(request.path):
            answer: HttpResponseBase | Awaitable[HttpResponseBase] = self.get_response(request)
            return answer
        return self._later(request) if self.is_async else self._now(request)

    def _now(self, request: HttpRequest) -> HttpResponseBase:
        headers, refusal = judge(request)
        return _with(headers, refusal or self.get_response(request))

    async def _later(self, request: HttpRequest) -> HttpResponseBase:
        headers, refusal = await sync_to_async(judge)(request)
        return _with(headers, refusal or await self.get_response(request))


def is_counted(path: str) -> bool:
    """The API, whether or not there is something at the address; never pages and files."""
    return bool(settings.RATE_LIMIT_ENABLED) and f"{path}/".startswith(API_PREFIXES)


def judge(request: HttpRequest) -> tuple[dict[str, str], HttpResponse | None]:
    """The headers that tell of the limit, and the refusal, if it is one."""
    try:
        verdict = take(*bucket_of(request))
    except (OperationalError, InterfaceError) as error:
        problem = as_app_error(error)
        assert problem is not None
        return {}, problem_response(request, problem)
    if verdict.admitted:
        return verdict.headers, None
    return verdict.headers, problem_response(request, TooManyRequests(verdict))


def bucket_of(request: HttpRequest) -> tuple[str, Limit]:
    """Only a key or token that really opens has a bucket: nobody empties that of another."""
    limit = Limit(requests=settings.RATE_LIMIT_REQUESTS, period=settings.RATE_LIMIT_PERIOD)
    examined = examine_request(request)
    if examined is None:
        person = getattr(request, "user", None)
        if person is not None and person.is_authenticated:
            return f"user:{person.pk}", limit
    elif examined.accepted and examined.key is not None:
        key = examined.key
        own = Limit(
            requests=key.rate_limit_requests or limit.requests,
            period=key.rate_limit_period or limit.period,
        )
        return f"key:{key.pk}", own
    elif examined.accepted and examined.user is not None:
        return f"user:{examined.user.pk}", limit
    return f"address:{_neighbourhood(request.META.get('REMOTE_ADDR'))}", limit


def _neighbourhood(address: str | None) -> str:
    """An IPv6 client has 2^64 addresses; all of them are one."""
    parsed = parse_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def _with(headers: dict[str, str], response: HttpResponseBase) -> HttpResponseBase:
    for name, value in headers.items():
        response[name] = value
    return response
