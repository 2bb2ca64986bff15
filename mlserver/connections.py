"""The connections of a web process: whoever says nothing goes, and there are never too many.

uvicorn waits for ever for a connection's first request, or for the rest of its head, and once a
process has no file descriptors left nobody else gets in. Given to it as --http.
"""

import asyncio
import resource
from typing import Any, ClassVar, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mlserver.whole import WHOLE, Whole

HEAD_SECONDS = 20.0
"""A request's first line and headers come within this time."""
LOOK_SECONDS = 1.0
MOST = 4096
SPARE_FILES = 200
"""For the database, the workers, files on their way in and out."""
BODY = (
    b'{"type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": "All'
    b' connections that this server keeps are busy; try again in a moment.", "code":'
    b' "too_many_connections", "errors": [], "request_id": null}'
)
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n"
    b"retry-after: 1\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
)


def find_most() -> int:
    """How many connections this process can keep, with all the open files that it may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return MOST if hard == resource.RLIM_INFINITY else max(1, min(MOST, hard - SPARE_FILES))


class Connection(HttpToolsProtocol):
    """One of a process with one event loop."""

    most: ClassVar[int] = find_most()
    waiting: ClassVar[dict["Connection", float]] = {}
    """Those from whom a request is to come → since when; the longest first."""
    sweeper: ClassVar[asyncio.TimerHandle | None] = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most:
            if not self.waiting:
                transport.write(FULL)
                transport.close()
                return
            next(iter(self.waiting)).give_up()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self.waiting.pop(self, None)
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        self.waiting.pop(self, None)
        super().on_headers_complete()
        cast(dict[str, Any], self.scope)["extensions"] = {WHOLE: Whole(self.cycle)}

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._wait()

    def give_up(self) -> None:
        del self.waiting[self]
        self.transport.close()

    def _wait(self) -> None:
        self.waiting[self] = self.loop.time()
        if Connection.sweeper is None:
            Connection.sweeper = self.loop.call_later(LOOK_SECONDS, self._sweep, self.loop)

    @classmethod
    def _sweep(cls, loop: asyncio.AbstractEventLoop) -> None:
        overdue = loop.time() - HEAD_SECONDS
        while cls.waiting and next(iter(cls.waiting.values())) < overdue:
            next(iter(cls.waiting)).give_up()
        cls.sweeper = loop.call_later(LOOK_SECONDS, cls._sweep, loop) if cls.waiting else None
