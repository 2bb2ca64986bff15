"""What happens to every request: an id, a clock, and errors of pages turned into answers."""

import re
import secrets
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse

from mlserver.api.around import around
from mlserver.api.errors import as_app_error, problem_response
from mlserver.api.negotiation import wants_html
from mlserver.lib import origin
from mlserver.lib.errors import AppError, Malformed

ACCEPTED_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def _begin(request: HttpRequest) -> None:
    sent = request.headers.get("X-Request-ID", "")
    request.request_id = sent if ACCEPTED_ID.fullmatch(sent) else secrets.token_hex(16)  # type: ignore[attr-defined]
    origin.enter(request.path, request.request_id, request.META.get("REMOTE_ADDR"))  # type: ignore[attr-defined]
    _measure_chunked(request)


def _finish(request: HttpRequest, response: HttpResponseBase, seconds: float) -> None:
    response["X-Request-ID"] = request.request_id  # type: ignore[attr-defined]
    response["X-Process-Time"] = f"{seconds:.6f}"
    origin.leave()


def _measure_chunked(request: HttpRequest) -> None:
    """A body sent in chunks has no Content-Length, and Django and DRF would take it for empty.

    Under ASGI the body lies whole in a file by now, so its length is known.
    """
    if "CONTENT_LENGTH" in request.META or "HTTP_TRANSFER_ENCODING" not in request.META:
        return
    stream: Any = getattr(request, "_stream", None)
    if stream is not None and stream.seekable():
        request.META["CONTENT_LENGTH"] = str(stream.seek(0, 2))
        stream.seek(0)


# Outermost, so that every answer has `X-Request-ID` and `X-Process-Time` (seconds).
request_id = around(before=_begin, after=_finish)


class Problems:
    """Turns an AppError that a page or a plain view raises into its answer.

    DRF's views have done so already (mlserver.api.errors.problem_handler).
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if refusal := _refuse_nul(request):
            return self._later(refusal) if self.is_async else refusal
        answer: HttpResponseBase | Awaitable[HttpResponseBase] = self.get_response(request)
        return answer

    async def _later(self, response: HttpResponse) -> HttpResponse:
        return response

    def process_exception(
        self, request: HttpRequest, exception: Exception
    ) -> HttpResponseBase | None:
        error = as_app_error(exception) if _is_ours(exception) else None
        return None if error is None else answer_error(request, error)


def answer_error(request: HttpRequest, error: AppError) -> HttpResponseBase:
    """A page for browsers, problem+json for everyone else."""
    if not wants_html(request) or request.path.startswith("/api/"):
        return problem_response(request, error)
    context = {"title": HTTPStatus(error.status).phrase, "detail": error.detail}
    response = TemplateResponse(request, "error.html", context, status=error.status)
    if error.retry_after_seconds is not None:
        response["Retry-After"] = str(error.retry_after_seconds)
    return response.render()


def _is_ours(exception: Exception) -> bool:
    """404, 403 and 400 of Django have their own handlers, which DEBUG makes more talkative."""
    return isinstance(exception, AppError | OperationalError | InterfaceError)


def _refuse_nul(request: HttpRequest) -> HttpResponse | None:
    """PostgreSQL answers a NUL in a parameter with an exception, SQLite with nothing found."""
    if "\0" in request.path_info or "%00" in request.META.get("QUERY_STRING", ""):
        return problem_response(request, Malformed("The address contains a NUL character."))
    return None
