"""What somebody sees who guessed too many passwords (django-axes calls it)."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from mlserver.api.middleware import answer_error
from mlserver.lib.errors import AppError


class LockedOut(AppError):
    status = 429
    code = "locked_out"

    def __init__(self) -> None:
        minutes = int(settings.AXES_COOLOFF_TIME.total_seconds() // 60)
        self.retry_after_seconds = minutes * 60
        super().__init__(
            f"Too many failed attempts for this name from this address; wait {minutes} minutes."
        )


def answer_locked_out(
    request: HttpRequest, response: Any = None, credentials: Any = None
) -> HttpResponseBase:
    return answer_error(request, LockedOut())
