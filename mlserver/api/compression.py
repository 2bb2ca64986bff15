"""Static files are sent compressed. Nothing else is: the length of a compressed page could tell
what secrets it holds (BREACH), and event streams must flow."""

from __future__ import annotations

import re
import zlib
from collections.abc import AsyncIterator
from typing import cast

from django.conf import settings
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers

from mlserver.api.around import around

COMPRESSIBLE = ("text/", "application/javascript", "application/json", "image/svg+xml")
GZIP = 31  # what zlib calls a gzip header and the largest window
ACCEPTS = re.compile(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))")


def _answer(request: HttpRequest, response: HttpResponseBase, seconds: float) -> None:
    if (
        not request.path.startswith(settings.STATIC_URL)
        or request.method != "GET"
        or response.status_code != 200  # a part of a file (206) must stay as it is
        or not response.headers.get("Content-Type", "").startswith(COMPRESSIBLE)
        or not isinstance(response, StreamingHttpResponse)
        or not response.is_async
    ):
        return
    patch_vary_headers(response, ["Accept-Encoding"])
    if ACCEPTS.search(request.headers.get("Accept-Encoding", "")):
        chunks = cast(AsyncIterator[bytes], response.streaming_content)  # `is_async` says so
        response.streaming_content = compress(chunks)
        response.headers["Content-Encoding"] = "gzip"
        # These are of the file as it is. Browsers ask by the time of its last change instead.
        for name in ("Content-Length", "ETag", "Accept-Ranges"):
            response.headers.pop(name, None)


async def compress(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """One gzip member for all; Django's GZipMiddleware makes one of each chunk, and curl and
    Chromium read no further than the first."""
    packer = zlib.compressobj(wbits=GZIP)
    async for chunk in chunks:
        if packed := packer.compress(chunk):
            yield packed
    yield packer.flush()


compress_static = around(after=_answer)
