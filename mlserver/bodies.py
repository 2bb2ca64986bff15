"""Refuses request bodies that are too large, or stop coming, while they arrive.

Django writes the whole body to disk before any view or any check of a key runs; without
this, whoever reaches the port could fill the disk. A body that does not come is not waited for.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from django.conf import settings

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

IDLE_SECONDS = 60.0
"""The longest silence within a body."""
FORM_BYTES = 2**20  # what a multipart body may have around its file


class BodyTooLarge(Exception):
    """More arrived than may."""


class BodyTooSlow(Exception):
    """The client is there and sends nothing."""


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
            detail = f"The body is larger than the {limit:,} bytes that this server takes."
            await _refuse(send, 413, "Content Too Large", "too_large", detail)
        except BodyTooSlow:
            detail = f"No part of the body came within {IDLE_SECONDS:g} seconds."
            await _refuse(send, 408, "Request Timeout", "too_slow", detail)


def _limit(content_type: bytes) -> int:
    if content_type.lower().startswith(b"multipart/form-data"):
        return int(settings.MAX_UPLOAD_SIZE) + FORM_BYTES
    return int(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)


def announced_bytes(headers: Mapping[bytes, bytes]) -> int:
    """What Content-Length says; 0 where it says nothing of use."""
    length = headers.get(b"content-length", b"")
    return int(length) if length.isdigit() and len(length) < 20 else 0


def _counted(receive: Receive, limit: int) -> Receive:
    arrived, is_whole = 0, False

    async def counted() -> Message:
        nonlocal arrived, is_whole
        # Once it is whole, whoever goes on listening waits for the client to leave.
        try:
            async with asyncio.timeout(None if is_whole else IDLE_SECONDS):
                message = await receive()
        except TimeoutError:
            raise BodyTooSlow from None
        is_whole = not message.get("more_body", False)
        arrived += len(message.get("body", b""))
        if arrived > limit:
            raise BodyTooLarge
        return message

    return counted


async def _refuse(send: Send, status: int, title: str, code: str, detail: str) -> None:
    problem = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "errors": [],
        "request_id": None,
    }
    headers = [(b"content-type", b"application/problem+json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": orjson.dumps(problem)})
