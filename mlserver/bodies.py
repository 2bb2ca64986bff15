"""Refuses request bodies that are too large while they arrive.

Django writes the whole body to disk before any view or any check of a key runs; without
this, whoever reaches the port could fill the disk.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from django.conf import settings

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

FORM_BYTES = 2**20  # what a multipart body may have around its file


class BodyTooLarge(Exception):
    """More arrived than may."""


class LimitedBodies:
    """An ASGI application around another: announced sizes are believed, arriving ones counted."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        headers = dict(scope["headers"])
        limit = _limit(headers.get(b"content-type", b""))
        try:
            if announced_bytes(headers) > limit:
                raise BodyTooLarge
            await self.application(scope, _counted(receive, limit), send)
        except BodyTooLarge:
            await _refuse(send, limit)


def _limit(content_type: bytes) -> int:
    if content_type.lower().startswith(b"multipart/form-data"):
        return int(settings.MAX_UPLOAD_SIZE) + FORM_BYTES
    return int(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)


def announced_bytes(headers: Mapping[bytes, bytes]) -> int:
    """What Content-Length says; 0 where it says nothing of use."""
    length = headers.get(b"content-length", b"")
    return int(length) if length.isdigit() and len(length) < 20 else 0


def _counted(receive: Receive, limit: int) -> Receive:
    arrived = 0

    async def counted() -> Message:
        nonlocal arrived
        message = await receive()
        arrived += len(message.get("body", b""))
        if arrived > limit:
            raise BodyTooLarge
        return message

    return counted


async def _refuse(send: Send, limit: int) -> None:
    problem = {
        "type": "about:blank",
        "title": "Content Too Large",
        "status": 413,
        "detail": f"The body is larger than the {limit:,} bytes that this server takes.",
        "code": "too_large",
        "errors": [],
        "request_id": None,
    }
    headers = [(b"content-type", b"application/problem+json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": orjson.dumps(problem)})
