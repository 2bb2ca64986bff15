"""Reads what a client sends: not more than it may, not slower, not more at once than fits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from django.conf import settings

from inference.plane.interrupt import Interruptible
from mlserver.bodies import Receive, announced_bytes
from mlserver.lib.errors import AppError, TooLarge, Unavailable
from mlserver.whole import Whole

IDLE_SECONDS = 20.0
"""The longest silence within a body."""
WHOLE_SECONDS = 300.0


class ClientGone(Exception):
    """Nobody waits for the answer."""


class TooSlow(AppError):
    status: ClassVar[int] = 408
    code = "too_slow"


class Crowded(Unavailable):
    code = "too_many_requests_at_once"
    retry_after_seconds = 1


class Room:
    """How many requests, and how many bytes of them, are in this process."""

    def __init__(self) -> None:
        # Once: reading a setting takes a microsecond.
        self.most_requests: int = settings.MAX_INFERENCE_REQUESTS
        self.most_bytes: int = settings.MAX_INFERENCE_MEMORY
        self.most_of_one: int = settings.MAX_INFERENCE_SIZE
        self.requests = 0
        self.bytes = 0


class Seat:
    """One request's share of the room, as long as its block lasts; to enter it raises Crowded."""

    __slots__ = ("bytes", "room")

    def __init__(self, room: Room) -> None:
        self.room = room
        self.bytes = 0

    def __enter__(self) -> Self:
        room = self.room
        if room.requests >= room.most_requests:
            raise Crowded(f"{room.requests} requests are being answered, and no more may be.")
        room.requests += 1
        return self

    def __exit__(self, *raised: object) -> None:
        self.room.requests -= 1
        self.room.bytes -= self.bytes

    def hold(self, count: int) -> None:
        """Raises TooLarge and Crowded."""
        room = self.room
        if self.bytes + count > room.most_of_one:
            raise too_large()
        if room.bytes + count > room.most_bytes:
            raise Crowded(
                f"The bodies of all requests would take more than {room.most_bytes:,} bytes."
            )
        self.bytes += count
        room.bytes += count


def too_large() -> TooLarge:
    most = settings.MAX_INFERENCE_SIZE
    return TooLarge(f"The body is larger than the {most:,} bytes that an inference request may be.")


async def read_body(
    headers: Mapping[bytes, bytes], whole: Whole | None, receive: Receive, seat: Seat
) -> bytes:
    """All of it; raises TooLarge, TooSlow, Crowded and ClientGone."""
    if announced_bytes(headers) > seat.room.most_of_one:
        raise too_large()
    if whole is not None and (body := whole.take_body()) is not None:
        seat.hold(len(body))
        return body
    parts: list[bytes] = []
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + WHOLE_SECONDS
    with Interruptible() as reading:
        while True:
            patience = min(IDLE_SECONDS, ends_at - loop.time())
            timer = loop.call_later(patience, reading.interrupt, _too_slow)
            try:
                message: Mapping[str, Any] = await receive()
            finally:
                timer.cancel()
            if message["type"] == "http.disconnect":
                raise ClientGone
            if part := message.get("body", b""):
                seat.hold(len(part))
                parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_slow() -> TooSlow:
    return TooSlow(
        f"The body did not come: no part of it within {IDLE_SECONDS:g} seconds, or not all of it"
        f" within {WHOLE_SECONDS:g}."
    )
