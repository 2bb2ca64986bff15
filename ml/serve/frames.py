"""What goes over a worker's socket: frames of a JSON header and raw bytes, many at once.

A frame is two little-endian 32-bit lengths, the header, the body. Every request carries an `id`,
and its reply the same one, so replies may come in any order.

    {"kind": "predict", "id", "timeout_seconds", "outputs": [names] or null, "encoding": "json",
     "batch_rows": most of one engine call, or null, "return": "json"}  body: {input: nested lists},
                                 or, with "member": name, an object that holds this under the name
                                 and, with "beside": {name: value}, just that beside it
    {"kind": "predict", …, "encoding": "tensors", "tensors": [{name, datatype, shape, size_bytes}],
     "return": "tensors"}                                  body: the tensors, one after the other
    {"kind": "generate", "id", "timeout_seconds", "stream", …as ml.serve.wishes}
                                                   body: a JSON text, or the messages of a chat
    {"kind": "review", "id", "timeout_seconds", "worst": class}           body: Python code
    {"kind": "cancel", "id"}                               of one of these; it gets no reply
    {"kind": "stats", "id"}, {"kind": "describe", "id"}

    {"id", "ok": true, …}, {"id", "ok": false, "code", "message", "field"}

A stream is told piece by piece before its reply: {"id", "ok": true, "is_last": false, "number"},
with text for the number-th of the texts that were asked for as the body.

Standard library and orjson only: Django processes read it too.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

PREFIX = struct.Struct("<II")
MAX_HEADER_BYTES = 2**20
MAX_BODY_BYTES = 2**30

Header = dict[str, Any]
Frame = tuple[Header, bytes]


class BrokenFrame(ValueError):
    """The other side does not speak this protocol; the connection is of no more use."""


def pack(header: Mapping[str, Any], *body: bytes | memoryview) -> list[bytes | memoryview]:
    """The parts of one frame, to be written one after the other without being joined first."""
    head = orjson.dumps(header)
    size = sum(len(part) for part in body)
    if len(head) > MAX_HEADER_BYTES or size > MAX_BODY_BYTES:
        raise BrokenFrame(f"a frame of {len(head) + size:,} bytes is larger than a socket carries")
    return [PREFIX.pack(len(head), size) + head, *body]


TOGETHER = 4
"""Frames that are held back for each other: with more of them the other side would wait while this
one works, and then the other way round."""


class FrameWriter:
    """What is said in one turn of the event loop is written with few system calls."""

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport
        self._parts: list[bytes | memoryview] = []
        self._frames = 0

    def write(self, header: Mapping[str, Any], *body: bytes | memoryview) -> None:
        """Raises BrokenFrame."""
        parts = pack(header, *body)
        if not self._parts:
            asyncio.get_running_loop().call_soon(self.flush)
        self._parts += parts
        self._frames += 1
        if self._frames == TOGETHER:
            self.flush()

    def flush(self) -> None:
        """At once, before the connection is closed."""
        parts, self._parts, self._frames = self._parts, [], 0
        if parts and not self._transport.is_closing():
            self._transport.writelines(parts)


class FrameReader:
    """Finds the frames in what a connection delivers, however it is cut."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete now; raises BrokenFrame."""
        self._buffer += data
        start = 0
        # A memoryview would forbid the buffer to shrink afterwards, so whole frames are copied.
        while (end := self._end_of_frame(start)) is not None:
            head_end = start + PREFIX.size + self._lengths(start)[0]
            header = _parse(bytes(self._buffer[start + PREFIX.size : head_end]))
            yield header, bytes(self._buffer[head_end:end])
            start = end
        del self._buffer[:start]

    def _end_of_frame(self, start: int) -> int | None:
        if len(self._buffer) - start < PREFIX.size:
            return None
        header, body = self._lengths(start)
        if header > MAX_HEADER_BYTES or body > MAX_BODY_BYTES:
            raise BrokenFrame(f"a frame claims {header:,} and {body:,} bytes")
        end = start + PREFIX.size + header + body
        return end if len(self._buffer) >= end else None

    def _lengths(self, start: int) -> tuple[int, int]:
        header, body = PREFIX.unpack_from(self._buffer, start)
        return header, body


def _parse(raw: bytes) -> Header:
    try:
        header = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BrokenFrame(f"a header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise BrokenFrame("a header is not a JSON object")
    return header
