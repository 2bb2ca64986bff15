"""The raw ASGI application in front of Django: finds the route, lets in, reads, answers, counts."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Self

from django.http import HttpResponse
from rest_framework.exceptions import ValidationError

from accounts.folding import FoldedAttempts, save_folds
from accounts.leases import Leases
from accounts.middleware import TooManyRequests
from inference.plane.bodies import ClientGone, Room, Seat, read_body
from inference.plane.gate import Caller, Gate, fingerprint_of
from inference.plane.interrupt import Interruptible
from inference.plane.routes import Call, Headers, Reply, Route, Router
from inference.plane.threads import in_thread
from mlserver.api.errors import SERVER_ERROR, as_app_error, from_validation, problem_response
from mlserver.api.middleware import ACCEPTED_ID
from mlserver.bodies import Application, Receive, Send
from mlserver.lib import origin
from mlserver.lib.errors import AppError
from mlserver.whole import WHOLE, Whole

logger = logging.getLogger(__name__)
request_log = logging.getLogger("mlserver.requests")

WATCH_AFTER_SECONDS = 0.02
"""Answers that take longer are watched: does their client still wait?"""
TIDY_SECONDS = 1.0
CLIENT_GONE = 499  # for the log and the metrics; nobody receives it
LIMITS = b"x-ratelimit-"
SET_HERE = (b"content-length", b"x-request-id", b"x-process-time")


@dataclass(kw_only=True, slots=True)
class Exchange:
    """One request on its way through the plane."""

    route: Route
    parameters: Mapping[str, str]
    scope: Any
    receive: Receive
    send: Send
    headers: Mapping[bytes, bytes]
    whole: Whole | None
    """What the connection offers beside ASGI."""
    request_id: str
    started: float
    caller: Caller | None = None
    limits: Headers = ()
    """What the answer tells of the rate limit."""
    status: int = CLIENT_GONE
    is_begun: bool = False
    model: str = ""

    @property
    def path(self) -> str:
        """For what turns errors into answers."""
        return self.caller.path if self.caller else self.scope["path"]

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started


Observe = Callable[[Exchange], None]


class Plane:
    """For the one event loop of a web process. `observers` are told of every exchange."""

    def __init__(
        self, routes: Sequence[Route], otherwise: Application, observers: Sequence[Observe] = ()
    ) -> None:
        self._router = Router(routes)
        self._otherwise = otherwise
        self._observers = observers
        self._gate = Gate()
        self._leases = Leases(in_thread)
        self._attempts = FoldedAttempts()
        self._room = Room()
        self._tidying: asyncio.Task[None] | None = None

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        found = None
        if scope["type"] == "http":
            found = self._router.find(scope["method"], scope["path"])
        if found is None:
            await self._otherwise(scope, receive, send)
            return
        route, parameters = found
        headers = dict(scope["headers"])
        exchange = Exchange(
            route=route, parameters=parameters, scope=scope, receive=receive, send=send,
            headers=headers, whole=scope.get("extensions", {}).get(WHOLE),
            request_id=_request_id(headers), started=time.perf_counter(),
        )  # fmt: skip
        if self._tidying is None:
            self._tidying = asyncio.create_task(self._tidy())
        try:
            await self._serve(exchange)
        finally:
            self._note(exchange)

    async def _serve(self, exchange: Exchange) -> None:
        try:
            refusal = await self._let_in(exchange)
            if refusal is not None:
                await _respond(exchange, refusal)
                return
            with Seat(self._room) as seat:
                body = await read_body(exchange.headers, exchange.whole, exchange.receive, seat)
                await _answer(exchange, body)
        except ClientGone:
            exchange.status = CLIENT_GONE
        except Exception as error:  # the edge: whatever it is, somebody waits
            if exchange.is_begun:
                raise
            await _respond(exchange, _as_problem(exchange, error))

    async def _let_in(self, exchange: Exchange) -> HttpResponse | None:
        """The refusal, if it is one."""
        scope, view = exchange.scope, exchange.route.view
        fingerprint = fingerprint_of(scope)
        caller = self._gate.recall(fingerprint, scope, view)
        if caller is None:
            caller, answer = await self._gate.ask(fingerprint, scope, view)
            if caller is None:
                return answer
            exchange.limits = tuple(h for h in _headers_of(answer) if h[0].startswith(LIMITS))
            _enter(exchange, caller)
            return None
        _enter(exchange, caller)
        if caller.bucket is not None:
            verdict = self._leases.spend(*caller.bucket) or await self._leases.take(*caller.bucket)
            exchange.limits = _as_raw(verdict.headers.items())
            if not verdict.admitted:
                raise TooManyRequests(verdict)
        return None

    def _note(self, exchange: Exchange) -> None:
        caller = exchange.caller
        if caller is not None and caller.attempt is not None and exchange.status != 429:
            self._attempts.note(caller.attempt, time.time())
        _log(exchange)
        for observe in self._observers:
            observe(exchange)

    async def _live(self, receive: Receive, send: Send) -> None:
        """The beginning and the end of the web process."""
        await receive()
        self._tidying = asyncio.create_task(self._tidy())
        # What was imported stays; looking through it for garbage takes 60 ms, now and then.
        gc.collect()
        gc.freeze()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._tidying.cancel()
        await self._leases.close()
        await self._save_attempts()
        await send({"type": "lifespan.shutdown.complete"})

    async def _tidy(self) -> None:
        """For ever: what was counted in memory goes to the database."""
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            try:
                await self._leases.tidy()
                await self._save_attempts()
            except Exception:  # the edge: the database may be away for a while
                logger.exception("What inference counted could not be saved; it is tried again")

    async def _save_attempts(self) -> None:
        due = self._attempts.take(time.time())
        if not due:
            return
        try:
            await asyncio.shield(in_thread(save_folds, due))
        except Exception:
            self._attempts.put_back(due)
            raise


# --- Answering ----------------------------------------------------------------------------


async def _answer(exchange: Exchange, body: bytes) -> None:
    assert exchange.caller is not None
    call = Call(exchange.caller, exchange.headers, exchange.parameters, body, exchange.request_id)
    with _Watched(exchange.receive):
        reply = await exchange.route.answer(call)
        exchange.model = reply.model
        if isinstance(reply.body, bytes):
            await _send_whole(exchange, reply.status, reply.headers, reply.body)
        else:
            await _send_stream(exchange, reply, reply.body)


class _Watched(Interruptible):
    """Raises ClientGone within when the client goes away."""

    __slots__ = ("_receive", "_timer", "_watcher")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_SECONDS, self._watch)
        return super().__enter__()

    def _watch(self) -> None:
        self._watcher = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.interrupt(ClientGone)

    def __exit__(self, *raised: Any) -> None:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        super().__exit__(*raised)


async def _send_whole(exchange: Exchange, status: int, headers: Headers, body: bytes) -> None:
    exchange.status, exchange.is_begun = status, True
    length = (b"content-length", b"%d" % len(body))
    told = [*headers, length, *_common_headers(exchange)]
    if exchange.whole is not None and exchange.whole.answer(status, told, body):
        return
    await exchange.send({"type": "http.response.start", "status": status, "headers": told})
    await exchange.send({"type": "http.response.body", "body": body})


async def _send_stream(exchange: Exchange, reply: Reply, parts: AsyncIterator[bytes]) -> None:
    exchange.status, exchange.is_begun = reply.status, True
    headers = [*reply.headers, *_common_headers(exchange)]
    start = {"type": "http.response.start", "status": reply.status, "headers": headers}
    async with aclosing(parts):  # type: ignore[type-var]  # an async generator, as a rule
        await exchange.send(start)
        async for part in parts:
            await exchange.send({"type": "http.response.body", "body": part, "more_body": True})
    await exchange.send({"type": "http.response.body", "body": b""})


async def _respond(exchange: Exchange, answer: HttpResponse) -> None:
    """What Django made: a refusal of the chain, or a problem of ours."""
    exchange.request_id = answer.headers.get("X-Request-ID", exchange.request_id)
    headers = tuple(header for header in _headers_of(answer) if header[0] not in SET_HERE)
    await _send_whole(exchange, answer.status_code, headers, answer.content)


def _headers_of(answer: HttpResponse) -> Headers:
    return _as_raw(answer.items())


def _as_raw(headers: Iterable[tuple[str, str]]) -> Headers:
    return tuple((name.lower().encode(), value.encode("latin-1")) for name, value in headers)


def _common_headers(exchange: Exchange) -> Headers:
    return (
        (b"x-request-id", exchange.request_id.encode()),
        (b"x-process-time", b"%.6f" % exchange.seconds),
        *exchange.limits,
        *(exchange.caller.headers if exchange.caller else ()),
    )


def _as_problem(exchange: Exchange, error: Exception) -> HttpResponse:
    if isinstance(error, ValidationError):
        error = from_validation(error.detail, {})
    known = as_app_error(error)
    if known is None:
        logger.error("%s failed", exchange.route.path, exc_info=error)
        known = AppError(SERVER_ERROR, code="server_error")
    return problem_response(exchange, known)


def _enter(exchange: Exchange, caller: Caller) -> None:
    """From here on log lines and audit rows know whose request this is."""
    exchange.caller = caller
    origin.enter(caller.path, exchange.request_id, caller.address)
    origin.note_key(caller.key_prefix)
    origin.note_person(caller.user)


def _request_id(headers: Mapping[bytes, bytes]) -> str:
    sent = headers.get(b"x-request-id", b"").decode("latin-1")
    return sent if sent and ACCEPTED_ID.fullmatch(sent) else f"{random.getrandbits(128):032x}"


def _log(exchange: Exchange) -> None:
    """Refusals and faults; who wants a line for each of thousands of answers a second sets
    LOG_LEVEL=DEBUG."""
    status = exchange.status
    level = logging.DEBUG if status < 400 else logging.INFO if status < 500 else logging.WARNING
    if request_log.isEnabledFor(level):
        facts = {
            "method": exchange.route.method,
            "path": exchange.path,
            "route": exchange.route.path,
            "status": status,
            "ms": round(1000 * exchange.seconds, 1),
        }
        request_log.log(level, "request", extra=facts)
