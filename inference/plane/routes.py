"""What an endpoint of the data plane is, what it is asked and what it answers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import orjson
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.request import Request
from rest_framework.views import APIView

from inference.plane.gate import Admitted, Caller, View, admit
from mlserver.api.permissions import IsViewer
from mlserver.lib.errors import AppError, Malformed

Headers = tuple[tuple[bytes, bytes], ...]
JSON: Headers = ((b"content-type", b"application/json"),)
EVENTS: Headers = ((b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"))


class Door(APIView):
    """Where one knocks: lets in whoever may read, and describes the endpoint in the API's schema
    and in urls.py. What comes of it, the plane answers."""

    permission_classes = (IsViewer,)

    def post(self, request: Request, **parameters: str) -> Admitted:
        return admit(request)


def described(**schema: Any) -> Callable[[type[Door]], type[Door]]:
    """As `extend_schema`, which on a class takes no `operation_id`."""
    return extend_schema_view(post=extend_schema(**schema))


class WrongType(AppError):
    status: ClassVar[int] = 415
    code = "unsupported_media_type"


@dataclass(slots=True)
class Call:
    """One request, whose caller may come in."""

    caller: Caller
    headers: Mapping[bytes, bytes]
    """Names in lower case."""
    parameters: Mapping[str, str]
    """Of the path."""
    body: bytes
    request_id: str

    def json(self) -> Any:
        """The body, parsed; raises WrongType and Malformed."""
        self.require_json()
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise Malformed(
                f"The body is not valid JSON: {error.msg} (line {error.lineno},"
                f" column {error.colno})."
            ) from error

    def require_json(self) -> None:
        """Raises WrongType where it says that it is something else."""
        sent = self.headers.get(b"content-type", b"application/json")
        if sent.partition(b";")[0].strip().lower() != b"application/json":
            told = sent.decode("latin-1")[:100]
            raise WrongType(f"The body is {told!r}; send application/json.")


@dataclass(slots=True)
class Reply:
    body: bytes | AsyncIterator[bytes]
    """A stream is sent part by part; its iterator is closed when the client goes away."""
    status: int = 200
    headers: Headers = JSON
    model: str = ""
    """Who answered, for the metrics."""


Answer = Callable[[Call], Awaitable[Reply]]


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    """`/v2/models/{name}/infer`; a slash at the end may be written or not."""
    view: View
    answer: Answer
    pattern: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        source = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path)
        object.__setattr__(self, "pattern", re.compile(source))

    @property
    def name(self) -> str:
        """As Django's endpoints are called in the metrics."""
        return f"{self.path}/"


class Router:
    def __init__(self, routes: Sequence[Route]) -> None:
        self._fixed = {(r.method, r.path): r for r in routes if "{" not in r.path}
        self._open = [route for route in routes if "{" in route.path]

    def find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]] | None:
        path = path.rstrip("/")
        if route := self._fixed.get((method, path)):
            return route, {}
        for route in self._open:
            if route.method == method and (found := route.pattern.fullmatch(path)):
                return route, found.groupdict()
        return None
