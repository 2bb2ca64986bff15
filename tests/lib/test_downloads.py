"""Attachments, ranges and archives, under WSGI and ASGI."""

import asyncio
import io
import tracemalloc
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from django.http.response import HttpResponseBase
from django.test import RequestFactory

from mlserver.lib.downloads import Download, file_response, stream_zip, zip_response

DATA = bytes(range(256)) * 4
MODIFIED = datetime(2026, 1, 6, 10, 30, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "weights").write_bytes(DATA)
    return tmp_path / "weights"


def get(path: Path, method: str = "GET", **headers: str) -> HttpResponseBase:
    request = RequestFactory().generic(method, "/", headers=headers or None)
    return file_response(request, path, filename="weights.bin", sha256="abc")


def body(response: HttpResponseBase) -> bytes:
    assert isinstance(response, Download)
    return b"".join(cast("Iterator[bytes]", response.streaming_content))


def test_it_sends_a_file_as_an_attachment(path: Path) -> None:
    response = get(path)
    assert body(response) == DATA
    assert response["Content-Length"] == str(len(DATA))
    assert response["Content-Disposition"] == 'attachment; filename="weights.bin"'
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["ETag"] == '"abc"'


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=0-9", 0, 10), ("bytes=1000-", 1000, 1024), ("bytes=-24", 1000, 1024),
     ("bytes=1020-5000", 1020, 1024), ("bytes=-5000", 0, 1024), ("bytes=0-0", 0, 1)],
)  # fmt: skip
def test_it_sends_a_range(path: Path, asked: str, start: int, end: int) -> None:
    response = get(path, Range=asked)
    assert response.status_code == 206
    assert body(response) == DATA[start:end]
    assert response["Content-Range"] == f"bytes {start}-{end - 1}/1024"
    assert response["Content-Length"] == str(end - start)


@pytest.mark.parametrize(
    "asked",
    ["bytes=9-0", "bytes=-", "bytes=a-b", "lines=0-1", "bytes=0-1,3-4", "bytes=" + "9" * 50 + "-"],
)
def test_it_ignores_a_range_that_it_cannot_read(path: Path, asked: str) -> None:
    response = get(path, Range=asked)
    assert response.status_code == 200
    assert body(response) == DATA


@pytest.mark.parametrize("asked", ["bytes=1024-", "bytes=5000-6000", "bytes=-0"])
def test_it_refuses_a_range_behind_the_end(path: Path, asked: str) -> None:
    response = get(path, Range=asked)
    assert response.status_code == 416
    assert response["Content-Range"] == "bytes */1024"


def test_a_range_of_a_changed_file_is_all_of_it(path: Path) -> None:
    assert get(path, Range="bytes=5-", **{"If-Range": '"old"'}).status_code == 200
    assert get(path, Range="bytes=5-", **{"If-Range": '"abc"'}).status_code == 206


def test_it_says_that_nothing_changed(path: Path) -> None:
    assert get(path, **{"If-None-Match": '"abc"'}).status_code == 304


def test_a_head_reads_nothing(path: Path) -> None:
    response = get(path, "HEAD")
    assert body(response) == b""
    assert response["Content-Length"] == "1024"


def test_an_empty_file_is_sent(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for response in (get(tmp_path / "empty"), get(tmp_path / "empty", Range="bytes=0-")):
        assert response.status_code == 200
        assert body(response) == b""


def test_it_streams_under_asgi(path: Path) -> None:
    response = cast(Download, get(path))

    async def collect() -> bytes:
        return b"".join([chunk async for chunk in response])

    assert asyncio.run(collect()) == DATA


def test_a_zip_holds_the_files(path: Path) -> None:
    request = RequestFactory().get("/")
    response = zip_response(
        request, [("m/a", path), ("m/b", path)], filename="m.zip", modified=MODIFIED
    )
    with zipfile.ZipFile(io.BytesIO(body(response))) as archive:
        assert archive.namelist() == ["m/a", "m/b"]
        assert archive.testzip() is None
        assert archive.read("m/b") == DATA
        assert archive.getinfo("m/a").date_time == (2026, 1, 6, 10, 30, 0)


def test_equal_members_give_equal_archives(path: Path) -> None:
    first, second = (b"".join(stream_zip([("a", path)], MODIFIED)) for _ in range(2))
    assert first == second


def test_a_zip_never_holds_a_file_in_memory(tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(64 * 2**20)
    tracemalloc.start()
    try:
        total = sum(map(len, stream_zip([("big", big)], MODIFIED)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total > 64 * 2**20
    assert peak < 8 * 2**20
