"""Middleware that does something before or after every answer, under WSGI and ASGI alike."""

import time
from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

Answer = Callable[[HttpRequest], Any]
Before = Callable[[HttpRequest], None]
After = Callable[[HttpRequest, HttpResponseBase, float], None]


def around(*, before: Before | None = None, after: After | None = None) -> Callable[..., Answer]:
    """A middleware; `after` is also told how many seconds the answer took."""

    def begin(request: HttpRequest) -> float:
        if before is not None:
            before(request)
        return time.perf_counter()

    def finish(
        request: HttpRequest, response: HttpResponseBase, started: float
    ) -> HttpResponseBase:
        if after is not None:
            after(request, response, time.perf_counter() - started)
        return response

    @sync_and_async_middleware
    def middleware(get_response: Answer) -> Answer:
        if iscoroutinefunction(get_response):

            async def answer_async(request: HttpRequest) -> HttpResponseBase:
                started = begin(request)
                return finish(request, await get_response(request), started)

            return answer_async

        def answer(request: HttpRequest) -> HttpResponseBase:
            started = begin(request)
            return finish(request, get_response(request), started)

        return answer

    return middleware
