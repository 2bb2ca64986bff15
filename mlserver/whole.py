"""A request that has come, and its answer, each in one piece: for many small ones a second.

By ASGI's `receive` and `send` these go in parts, and uvicorn makes a packet of each; head and body
apart cost the kernel, the network and the client twice. mlserver.connections offers this beside
them, as an extension of the scope; where it is missing, or refuses, they are used.
"""

from collections.abc import Iterable
from functools import cache
from http.client import responses
from typing import Any
from weakref import ref

WHOLE = "mlserver.whole"
"""The extension's name."""


class Whole:
    """Of one request. `cycle` is uvicorn's RequestResponseCycle, which goes on as if it had done
    this itself. It holds the scope that this lies in: a second arrow back would leave every
    request to the garbage collector."""

    __slots__ = ("_cycle",)

    def __init__(self, cycle: Any) -> None:
        self._cycle = ref(cycle)

    def take_body(self) -> bytes | None:
        """None: it has not come to its end, or the client is gone; `receive` tells."""
        cycle: Any = self._cycle()
        if cycle.more_body or cycle.disconnected:
            return None
        cycle.waiting_for_100_continue = False  # it did not wait
        body, cycle.body = bytes(cycle.body), bytearray()
        cycle.message_event.clear()
        return body

    def answer(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bool:
        """With the body's length among the headers. False: it must be sent in parts, since the
        client is slow to read, or gone, or asked for the head alone."""
        cycle: Any = self._cycle()
        if cycle.disconnected or cycle.flow.write_paused or cycle.scope["method"] == "HEAD":
            return False
        lines = [_status_line(status)]
        for name, value in (*cycle.default_headers, *headers):
            lines.append(b"%b: %b\r\n" % (name, value))
        if not cycle.keep_alive:
            lines.append(b"connection: close\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines):
            raise ValueError("A header has a line break in it.")
        cycle.waiting_for_100_continue = False  # it need not send the rest
        cycle.response_started = cycle.response_complete = True
        cycle.transport.write(b"%b\r\n%b" % (head, body))
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
        return True


@cache
def _status_line(status: int) -> bytes:
    return f"HTTP/1.1 {status} {responses.get(status, '')}\r\n".encode()
