"""Reads what a client sends: not more than it may, not slower, not more at once than fits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from django.conf import settings

from mlserver.bodies import Receive, announced_bytes
from mlserver.lib.errors import AppError, TooLarge, Unavailable

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
        self.requests = 0
        self.bytes = 0

    @contextmanager
    def seat(self) -> Iterator[Seat]:
        """Raises Crowded."""
        most = settings.MAX_INFERENCE_REQUESTS
        if self.requests >= most:
            raise Crowded(
                f"{self.requests} requests are being answered, and {most} may; try again."
            )
        self.requests += 1
        seat = Seat(self)
        try:
            yield seat
        finally:
            self.requests -= 1
            self.bytes -= seat.bytes


class Seat:
    """One request's share of the room."""

    def __init__(self, room: Room) -> None:
        self.bytes = 0
        self._room = room

    def hold(self, count: int) -> None:
        """Raises TooLarge and Crowded."""
        if self.bytes + count > settings.MAX_INFERENCE_SIZE:
            raise too_large()
        most = settings.MAX_INFERENCE_MEMORY
        if self._room.bytes + count > most:
            raise Crowded(f"The bodies of all requests would take more than {most:,} bytes.")
        self.bytes += count
        self._room.bytes += count


def too_large() -> TooLarge:
    most = settings.MAX_INFERENCE_SIZE
    return TooLarge(f"The body is larger than the {most:,} bytes that an inference request may be.")


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, seat: Seat) -> bytes:
    """All of it; raises TooLarge, TooSlow, Crowded and ClientGone."""
    announced = announced_bytes(headers)
    if announced > settings.MAX_INFERENCE_SIZE:
        raise too_large()
    try:
        async with asyncio.timeout(WHOLE_SECONDS):
            return await _collect(receive, seat)
    except TimeoutError:
        raise TooSlow(
            f"The body did not come: no part of it within {IDLE_SECONDS:g} seconds, or not all of"
            f" it within {WHOLE_SECONDS:g}."
        ) from None


async def _collect(receive: Receive, seat: Seat) -> bytes:
    parts: list[bytes] = []
    while True:
        async with asyncio.timeout(IDLE_SECONDS):
            message: Mapping[str, Any] = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        if part := message.get("body", b""):
            seat.hold(len(part))
            parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)
