"""Asks the workers: many requests at once over one connection to each, cancelled with their caller.

asyncio and the frames of ml.serve; no Django, no numpy. Errors are those of mlserver.lib.errors.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, ClassVar, cast

from ml.serve.frames import BrokenFrame, Frame, FrameReader, FrameWriter, Header
from mlserver.lib.errors import AppError, FieldError, Invalid, Malformed, TooLarge, Unavailable

LONGEST_PATH = 100  # a socket's address holds 108 bytes
SLACK_SECONDS = 2.0  # the worker keeps the deadline; this is for one that does not answer at all


class NotAnswering(Unavailable):
    """The worker is gone or about to go; another one takes its place within seconds."""

    code = "model_unavailable"
    retry_after_seconds = 1


class Busy(Unavailable):
    code = "queue_full"
    retry_after_seconds = 1


class TimedOut(AppError):
    """The answer did not come in the time that it had."""

    status: ClassVar[int] = 504
    code = "deadline_missed"


class Connection(asyncio.Protocol):
    """To one worker; belongs to the event loop that made it."""

    def __init__(self) -> None:
        self._reader = FrameReader()
        self._waiting: dict[int, asyncio.Future[Frame]] = {}
        self._streams: dict[int, asyncio.Queue[Frame | AppError]] = {}
        self._numbers = itertools.count(1)
        self._transport: asyncio.Transport | None = None
        self._writer: FrameWriter | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def predict(
        self,
        body: bytes | memoryview,
        *,
        timeout_seconds: float,
        **header: Any,
    ) -> Frame:
        """The reply's header and body; `header` as ml.serve.frames has it. Raises AppError."""
        asked = {"kind": "predict", "timeout_seconds": timeout_seconds, **header}
        return await self.ask(asked, body, timeout_seconds=timeout_seconds + SLACK_SECONDS)

    async def ask(
        self,
        header: Mapping[str, Any],
        body: bytes | memoryview = b"",
        *,
        timeout_seconds: float = 10.0,
    ) -> Frame:
        if self._transport is None or not self.is_open:
            raise NotAnswering("The model's worker has ended; another one takes its place.")
        number, loop = next(self._numbers), asyncio.get_running_loop()
        future: asyncio.Future[Frame] = loop.create_future()
        self._waiting[number] = future
        self._write({**header, "id": number}, body)
        timer = loop.call_later(timeout_seconds, _expire, future, timeout_seconds)
        try:
            reply, data = await future
        except (TimedOut, asyncio.CancelledError):
            self._write({"kind": "cancel", "id": number})
            raise
        finally:
            timer.cancel()
            del self._waiting[number]
        if not reply["ok"]:
            raise as_app_error(reply, header)
        return reply, data

    async def stream(
        self, header: Mapping[str, Any], body: bytes, *, timeout_seconds: float
    ) -> AsyncGenerator[Frame]:
        """Every frame of the reply; the last has no `is_last`. Close the iterator early, and the
        worker forgets the request. Raises AppError."""
        if not self.is_open:
            raise NotAnswering("The model's worker has ended; another one takes its place.")
        number = next(self._numbers)
        frames_of_it: asyncio.Queue[Frame | AppError] = asyncio.Queue()
        self._streams[number] = frames_of_it
        is_over = False
        try:
            asked = {**header, "id": number, "stream": True, "timeout_seconds": timeout_seconds}
            self._write(asked, body)
            while not is_over:
                async with asyncio.timeout(timeout_seconds + SLACK_SECONDS):
                    frame = await frames_of_it.get()
                is_over = isinstance(frame, AppError) or frame[0].get("is_last", True)
                if isinstance(frame, AppError):
                    raise frame
                if not frame[0]["ok"]:
                    raise as_app_error(frame[0], header)
                yield frame
        except TimeoutError:
            raise _timed_out(timeout_seconds) from None
        finally:
            del self._streams[number]
            if not is_over:
                self._write({"kind": "cancel", "id": number})

    def close(self) -> None:
        if self._transport is not None and self._writer is not None:
            self._writer.flush()
            self._transport.close()

    def _write(self, header: Header, body: bytes | memoryview = b"") -> None:
        if self._writer is not None and self.is_open:
            try:
                self._writer.write(header, body)
            except BrokenFrame as error:
                raise TooLarge(f"This is too much for one request: {error}.") from error

    # --- asyncio.Protocol -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an instance of it where the event loop is uvloop's.
        self._transport = cast(asyncio.Transport, transport)
        self._writer = FrameWriter(self._transport)

    def data_received(self, data: bytes) -> None:
        for header, body in self._reader.feed(data):
            if stream := self._streams.get(header["id"]):
                stream.put_nowait((header, body))
            future = self._waiting.get(header["id"])
            if future is not None and not future.done():
                future.set_result((header, body))

    def connection_lost(self, exc: Exception | None) -> None:
        ended = NotAnswering("The model's worker ended before it answered; try again.")
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ended)
        for stream in self._streams.values():
            stream.put_nowait(ended)


def _expire(future: asyncio.Future[Frame], seconds: float) -> None:
    if not future.done():
        future.set_exception(_timed_out(seconds))


def _timed_out(seconds: float) -> TimedOut:
    return TimedOut(f"There was no answer within {seconds:g} seconds.")


async def connect(path: Path) -> Connection:
    """Raises NotAnswering."""
    loop = asyncio.get_running_loop()
    try:
        with short_path(path) as address:
            _, connection = await loop.create_unix_connection(Connection, address)
    except OSError as error:
        raise NotAnswering("The model's worker does not answer; another one is started.") from error
    return connection


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """An address for a socket whose path may be longer than an address holds."""
    if len(os.fsencode(path)) <= LONGEST_PATH:
        yield os.fspath(path)
        return
    folder = os.open(path.parent, os.O_PATH)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[Connection]:
    """A connection for one request, where no pool lives long enough."""
    connection = await connect(path)
    try:
        yield connection
    finally:
        connection.close()


class Pool:
    """One connection to each worker, made when first needed; for one event loop."""

    def __init__(self) -> None:
        self._connections: dict[Path, Connection] = {}
        self._locks: dict[Path, asyncio.Lock] = {}

    async def get(self, path: Path) -> Connection:
        """Raises NotAnswering."""
        connection = self._connections.get(path)
        if connection is not None and connection.is_open:
            return connection
        async with self._locks.setdefault(path, asyncio.Lock()):
            connection = self._connections.get(path)  # somebody may have made it meanwhile
            if connection is None or not connection.is_open:
                self._forget_closed()
                connection = self._connections[path] = await connect(path)
        return connection

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
        self._forget_closed()

    def _forget_closed(self) -> None:
        """Of workers that are gone: their sockets will not come back."""
        for path, connection in list(self._connections.items()):
            if not connection.is_open:
                del self._connections[path]
                self._locks.pop(path, None)


def as_app_error(reply: Header, asked: Mapping[str, Any]) -> AppError:
    """What a worker refused, as the API tells it."""
    code, message = reply["code"], reply["message"]
    match code:
        case "invalid_input":
            name = reply.get("field")
            if asked["kind"] == "predict":
                field = "inputs" if name is None else f"inputs.{name}"
            else:
                field = name or ""
            errors = [FieldError(field=field, message=message, code=code)]
            return Invalid(message, code=code, errors=errors)
        case "context_length_exceeded":
            errors = [FieldError(field=reply["field"], message=message, code=code)]
            return Malformed(message, code=code, errors=errors)
        case "compute_failed" | "not_offered":
            return Invalid(message, code=code)
        case "too_many_rows":
            return TooLarge(message, code=code)
        case "queue_full":
            return Busy(message)
        case "deadline_missed":
            return TimedOut(message)
        case "draining":
            return NotAnswering(message)
    return AppError(message, code=code)
