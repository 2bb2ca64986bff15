"""Every error as one body, `application/problem+json` (RFC 9457), at whichever door."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from django.core.exceptions import (
    DisallowedHost,
    ObjectDoesNotExist,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
    TooManyFieldsSent,
    TooManyFilesSent,
)
from django.core.exceptions import ValidationError as ModelValidationError
from django.db import DataError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.template import loader
from django.views import csrf, defaults
from rest_framework import exceptions

from mlserver.api.negotiation import wants_html
from mlserver.lib.errors import (
    AppError,
    FieldError,
    Forbidden,
    Invalid,
    Malformed,
    NotFound,
    TooLarge,
    Unavailable,
)

logger = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"
CODES = {
    400: "malformed",
    401: "not_authenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid",
    429: "rate_limited",
    500: "server_error",
    503: "unavailable",
}
SERVER_ERROR = "Something went wrong inside the server. Its log has more under this request id."
OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
SECRET_WORDS = ("password", "secret", "token", "key")
LONGEST_ECHO = 200
OF_DOCUMENT_004 = ("/api/v1/predict", "/api/v1/models/load")


def problem_handler(exc: Exception, context: Mapping[str, Any]) -> HttpResponse | None:
    """DRF's EXCEPTION_HANDLER. None means: not an answer but a bug, Django logs it and says 500.

    The answer is a finished HttpResponse, so that a view which renders CSV or an
    event stream still reports its errors as JSON.
    """
    request = context.get("request")
    if isinstance(exc, exceptions.ValidationError):
        exc = from_validation(exc.detail, _sent(request))
    elif isinstance(exc, exceptions.APIException):
        return _from_drf(exc, request)
    error = as_app_error(exc)
    return None if error is None else problem_response(request, error)


def as_app_error(exc: BaseException) -> AppError | None:
    """What Django and the database raise for a request that is at fault, or not possible now."""
    match exc:
        case AppError():
            return exc
        case Http404() | ObjectDoesNotExist():
            return NotFound("There is nothing at this address.")
        case PermissionDenied():
            return Forbidden(str(exc) or "You are not allowed to do this.")
        case RequestDataTooBig():
            return TooLarge("The body is larger than the server takes.")
        case DisallowedHost():
            return Malformed("This host name is not served here; add it to ALLOWED_HOSTS.")
        case SuspiciousOperation() | TooManyFieldsSent() | TooManyFilesSent():
            return Malformed("The request cannot be accepted as it is.")
        case UnreadablePostError():
            return Malformed("The body ended before it was complete.")
        case ModelValidationError():
            return from_validation(_model_messages(exc), {})
        case DataError() | OverflowError() if _is_too_much(exc):
            return Invalid("A value is too large or too long to be stored.")
        case OperationalError() | InterfaceError():
            logger.error("The database did not answer", exc_info=exc)
            return Unavailable("The database does not answer now; try again in a few seconds.")
    return None


def problem_response(
    request: Any, error: AppError, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    response = _respond(request, error.status, error.code, error.detail, error.errors)
    if error.retry_after_seconds is not None:
        response["Retry-After"] = str(error.retry_after_seconds)
    for name, value in (headers or {}).items():
        response[name] = value
    return response


def from_validation(detail: Any, sent: Any) -> Invalid:
    """DRF's nested messages as a flat list; a field inside another is `outer.inner`."""
    errors = [
        FieldError(field=path, message=str(leaf), code=leaf_code(leaf), value=_echo(path, sent))
        for path, leaf in _leaves(detail)
    ]
    if len(errors) == 1:
        only = errors[0]
        return Invalid(
            f"{only.field}: {only.message}" if only.field else only.message, errors=errors
        )
    names = ", ".join(dict.fromkeys(error.field for error in errors if error.field))
    return Invalid(f"{len(errors)} values cannot be accepted: {names}.", errors=errors)


def leaf_code(leaf: Any) -> str:
    return str(getattr(leaf, "code", None) or "invalid")


# --- Django's own doors (ROOT_URLCONF names them) ----------------------------------------


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    error = as_app_error(exception) or Malformed("The server cannot accept this request as it is.")
    if not _is_page(request):
        return problem_response(request, error)
    # Without the request: what every page knows would ask for the host name that was refused.
    context = {"detail": error.detail, "request_id": getattr(request, "request_id", "")}
    return HttpResponse(loader.get_template("400.html").render(context), status=400)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_page(request):
        return defaults.permission_denied(request, exception)
    return problem_response(request, as_app_error(exception) or Forbidden("Not allowed."))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_page(request):
        return defaults.page_not_found(request, exception)
    return problem_response(request, NotFound(f"There is nothing at {request.path}."))


def server_error(request: HttpRequest) -> HttpResponse:
    """Says nothing of the inside: the log has it, under the same request id."""
    if _is_page(request):
        return defaults.server_error(request)
    return _respond(request, 500, CODES[500], SERVER_ERROR)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    if _is_page(request):
        return csrf.csrf_failure(request, reason)
    return problem_response(request, Forbidden(f"CSRF check failed: {reason}"))


def _is_page(request: HttpRequest) -> bool:
    return wants_html(request) and not request.path.startswith("/api/")


# --- The body ---------------------------------------------------------------------------


def _respond(
    request: Any, status: int, code: str, detail: str, errors: Sequence[FieldError] = ()
) -> HttpResponse:
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "errors": [_as_dict(error) for error in errors],
        "request_id": getattr(request, "request_id", ""),
        **_in_dialect(getattr(request, "path", ""), status, code, detail, errors),
    }
    kind = problem_type(getattr(request, "path", ""))
    return HttpResponse(orjson.dumps(body), status=status, content_type=kind)


def problem_type(path: str) -> str:
    """KServe's client reads what an answer says only where it is plain JSON."""
    return "application/json" if path.startswith("/v2") else PROBLEM_TYPE


def _in_dialect(
    path: str, status: int, code: str, detail: str, errors: Sequence[FieldError]
) -> dict[str, Any]:
    """What clients of other systems look for; RFC 9457 allows more members."""
    if path.startswith("/v1/"):  # OpenAI's
        kind = OPENAI_TYPES.get(
            status, "server_error" if status >= 500 else "invalid_request_error"
        )
        param = errors[0].field if errors else None
        return {"error": {"message": detail, "type": kind, "param": param, "code": code}}
    if path.startswith("/v2"):  # Open Inference Protocol
        return {"error": detail}
    if path.rstrip("/") in OF_DOCUMENT_004:
        return {"success": False, "error": detail}
    return {}


def _as_dict(error: FieldError) -> dict[str, Any]:
    return {
        "field": error.field,
        "message": error.message,
        "code": error.code,
        "value": _shown(error.field, error.value),
    }


def _from_drf(exc: exceptions.APIException, request: Any) -> HttpResponse:
    status = exc.status_code
    response = _respond(request, status, CODES.get(status, "error"), _sentence(exc))
    if header := getattr(exc, "auth_header", None):
        response["WWW-Authenticate"] = header
    if wait := getattr(exc, "wait", None):
        response["Retry-After"] = str(int(wait) + 1)
    return response


def _sentence(exc: exceptions.APIException) -> str:
    if isinstance(exc, exceptions.NotAuthenticated):
        return (
            "This needs a key: send it as 'Authorization: Bearer <key>' or 'X-API-Key: <key>', "
            "or sign in."
        )
    return str(exc.detail)


def _is_too_much(exc: BaseException) -> bool:
    """SQLite's driver raises no DataError for a number that it cannot hold."""
    return isinstance(exc, DataError) or "SQLite" in str(exc)


def _model_messages(exc: ModelValidationError) -> Any:
    return exc.message_dict if hasattr(exc, "error_dict") else exc.messages


def _leaves(detail: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(detail, Mapping):
        for name, inner in detail.items():
            part = "" if name in ("non_field_errors", "__all__") else str(name)
            yield from _leaves(inner, ".".join(filter(None, (path, part))))
    elif isinstance(detail, list | tuple):
        nested = any(isinstance(inner, Mapping | list) for inner in detail)
        for index, inner in enumerate(detail):
            yield from _leaves(inner, f"{path}.{index}".lstrip(".") if nested else path)
    else:
        yield path, detail


def _sent(request: Any) -> Any:
    """The body as parsed. Reading it again could raise what is being answered."""
    return getattr(request, "_full_data", {}) if request is not None else {}


def _echo(path: str, sent: Any) -> Any:
    value = sent
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def _shown(field: str, value: Any) -> Any:
    """What was sent, as far as it helps: no secrets, no files, nothing long."""
    if any(word in field.lower() for word in SECRET_WORDS):
        return None
    if isinstance(value, str):
        printable = value.encode("utf-8", "replace").decode()
        return printable if len(printable) <= LONGEST_ECHO else printable[:LONGEST_ECHO] + "…"
    if isinstance(value, bool | float) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else str(value)[:LONGEST_ECHO]
    return None
