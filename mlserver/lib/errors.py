"""The errors a service may raise. One handler (mlserver.api.errors) turns them into HTTP.

An error says what is wrong, where, and how to mend it. Each app subclasses the
meaning that fits, in the service that raises it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, kw_only=True)
class FieldError:
    """One field that cannot be accepted; `value` is what was sent."""

    field: str
    message: str
    code: str = "invalid"
    value: Any = None


class AppError(Exception):
    """Something a person asked for cannot be done. `detail` is a sentence, `code` a stable word."""

    status: ClassVar[int] = 500
    code: str = "error"
    retry_after_seconds: int | None = None

    def __init__(
        self, detail: str, *, code: str | None = None, errors: Sequence[FieldError] = ()
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)
        if code is not None:
            self.code = code


class Malformed(AppError):
    """The request cannot be read at all."""

    status = 400
    code = "malformed"


class Forbidden(AppError):
    """Known, but not allowed."""

    status = 403
    code = "forbidden"


class NotFound(AppError):
    """No such thing."""

    status = 404
    code = "not_found"


class Conflict(AppError):
    """The state or the name of a thing does not allow it now."""

    status = 409
    code = "conflict"


class TooLarge(AppError):
    """More bytes than the server takes."""

    status = 413
    code = "too_large"


class Invalid(AppError):
    """Readable, but the content is not acceptable; `errors` names the fields."""

    status = 422
    code = "invalid"


class Unavailable(AppError):
    """Not now; the same request may succeed later."""

    status = 503
    code = "unavailable"
    retry_after_seconds = 5


class NoSpace(AppError):
    """No memory or disk left for it."""

    status = 507
    code = "no_space"
