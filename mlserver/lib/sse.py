"""Server-sent events: how one is written, and the response that carries them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
from django.http import HttpRequest, StreamingHttpResponse

from mlserver.lib.errors import Unavailable

CONTENT_TYPE = "text/event-stream"
RECONNECT = b"retry: 2000\n\n"
# Proxies close what is silent; a comment is no event.
KEEP_ALIVE = b": keep-alive\n\n"
KEEP_ALIVE_SECONDS = 15


def encode_event(event: str, data: dict[str, Any], event_id: str | None = None) -> bytes:
    """One event. JSON escapes line ends, so the data is always one line."""
    name = b"" if event_id is None else b"id: " + event_id.encode() + b"\n"
    body = orjson.dumps(data, default=str, option=orjson.OPT_UTC_Z)
    return name + b"event: " + event.encode() + b"\ndata: " + body + b"\n\n"


class EventStream(StreamingHttpResponse):
    """The iterator must be async: Django reads a sync one to its end before the first byte."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        super().__init__(chunks, content_type=CONTENT_TYPE)
        self["Cache-Control"] = "no-cache, no-transform"
        self["X-Accel-Buffering"] = "no"  # nginx would collect events


def require_asgi(request: HttpRequest) -> None:
    """Under WSGI an endless stream is collected in memory for ever, so refuse it there."""
    if not hasattr(request, "scope"):
        raise Unavailable(
            "Event streams need an ASGI server; start this one with 'manage.py serve'."
        )
