"""Files and archives as HTTP answers: attachments, byte ranges, never a whole file in memory."""

import asyncio
import re
import zipfile
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import cast

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response
from django.utils.http import content_disposition_header

CHUNK_BYTES = 256 * 1024
BINARY = "application/octet-stream"
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)


class Download(StreamingHttpResponse):
    """A stream of blocking reads that also runs under ASGI.

    Django would collect a synchronous stream into a list there: the whole file in memory.
    """

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = iter(cast(Iterator[bytes], self.streaming_content))
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            yield chunk


def file_response(
    request: HttpRequest, path: Path, *, filename: str, sha256: str, content_type: str = BINARY
) -> HttpResponseBase:
    """One file as an attachment; a `Range` of it where asked, so that a download can continue."""
    size = path.stat().st_size
    etag = f'"{sha256}"'
    if unchanged := get_conditional_response(request, etag=etag):
        return unchanged
    start, end, status = _wanted_range(request, size, etag)
    if status == 206 and start >= end:
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}"})
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Content-Length": str(end - start)}
    if status == 206:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    # A HEAD must not read what it does not send.
    body = iter(()) if request.method == "HEAD" else _read(path, start, end)
    return _attach(Download(body, status=status, headers=headers), filename, content_type)


def zip_response(
    request: HttpRequest, members: Sequence[tuple[str, Path]], *, filename: str, modified: datetime
) -> HttpResponseBase:
    """Files as one archive, made while it is sent. Equal members give equal bytes."""
    body = iter(()) if request.method == "HEAD" else stream_zip(members, modified)
    return _attach(Download(body), filename, "application/zip")


def stream_zip(members: Sequence[tuple[str, Path]], modified: datetime) -> Iterator[bytes]:
    """The bytes of a ZIP archive. Stored, not deflated: weights do not become smaller."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        for name, path in members:
            info = zipfile.ZipInfo(name, modified.timetuple()[:6])
            info.external_attr = 0o644 << 16
            info.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(info, "w") as target:
                while chunk := source.read(CHUNK_BYTES):
                    target.write(chunk)
                    yield sink.take()
    yield sink.take()


class _Sink:
    """Where zipfile writes; it cannot seek, so zipfile puts sizes behind the data."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def _wanted_range(request: HttpRequest, size: int, etag: str) -> tuple[int, int, int]:
    """Start, end (exclusive) and status. Several ranges, or another file's: all of it."""
    match = _RANGE.fullmatch(request.headers.get("Range", "").replace(" ", ""))
    if (
        not size
        or match is None
        or match[0] == "bytes=-"
        or request.headers.get("If-Range", etag) != etag
    ):
        return 0, size, 200
    first, last = match.groups()
    if not first:  # the last n bytes
        return max(0, size - int(last)), size, 206
    if last and int(last) < int(first):
        return 0, size, 200
    return int(first), min(int(last) + 1, size) if last else size, 206


def _read(path: Path, start: int, end: int) -> Iterator[bytes]:
    # Opened here: a generator that is never started would never close what it was given.
    with path.open("rb") as file:
        file.seek(start)
        left = end - start
        while left > 0 and (chunk := file.read(min(CHUNK_BYTES, left))):
            left -= len(chunk)
            yield chunk


def _attach(response: Download, filename: str, content_type: str) -> Download:
    response["Content-Type"] = content_type
    response["Content-Disposition"] = content_disposition_header(True, filename)
    response["X-Content-Type-Options"] = "nosniff"
    return response
