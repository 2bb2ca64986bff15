"""What is shipped to the browser is what was vendored, and nothing asks for another host."""

import asyncio
import hashlib
import re
import zlib
from pathlib import Path
from typing import Any

from django.test import AsyncClient

ROOT = Path(__file__).resolve().parents[2]
VENDOR = ROOT / "static" / "vendor"


def test_vendored_files_are_unchanged() -> None:
    for line in (VENDOR / "VENDORED.sha256").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name


def test_every_vendored_file_is_listed() -> None:
    listed = {line.split()[1] for line in (VENDOR / "VENDORED.sha256").read_text().splitlines()}
    found = {path.name for path in VENDOR.iterdir()}
    assert found - listed == {"VENDORED.sha256", "README.md"}


def test_templates_have_nothing_inline_and_no_foreign_address() -> None:
    for path in (ROOT / "templates").rglob("*.html"):
        text = path.read_text()
        assert not re.search(r"\sstyle=|\son[a-z]+=|<style|javascript:", text), path
        assert not re.search(r'(src|href)="(https?:)?//', text), path
        assert not re.search(r"<script(?![^>]*\bsrc=)", text), path
        assert "|safe" not in text, path


def fetch(path: str, **headers: str) -> tuple[Any, bytes]:
    """As a browser does it, from the server as it runs under ASGI."""

    async def ask() -> tuple[Any, bytes]:
        answer: Any = await AsyncClient().get(f"/static/{path}", headers=headers)
        if answer.status_code == 304:
            return answer, b""  # servestatic's empty body is no async iterator
        return answer, b"".join([chunk async for chunk in answer])

    return asyncio.run(ask())


def test_static_files_are_compressed_on_the_wire_for_who_understands_it() -> None:
    path = "vendor/uPlot-1.6.32.iife.min.js"  # longer than the server's chunks
    content = (ROOT / "static" / path).read_bytes()
    answer, body = fetch(path, **{"accept-encoding": "gzip, br"})

    assert (answer["Content-Encoding"], answer["Vary"]) == ("gzip", "Accept-Encoding")
    unpacker = zlib.decompressobj(wbits=31)
    assert unpacker.decompress(body) == content
    assert (unpacker.eof, unpacker.unused_data) == (True, b"")  # browsers read one member only
    assert len(body) < len(content) / 2
    for encoding in ("", "gzip;q=0", "br"):
        answer, body = fetch(path, **{"accept-encoding": encoding})
        assert "Content-Encoding" not in answer
        assert body == content


def test_a_compressed_file_that_has_not_changed_is_not_sent_again() -> None:
    answer, _ = fetch("css/app.css", **{"accept-encoding": "gzip"})
    known = {"accept-encoding": "gzip", "if-modified-since": answer["Last-Modified"]}
    assert "ETag" not in answer
    assert fetch("css/app.css", **known)[0].status_code == 304


def test_a_part_of_a_file_is_sent_as_it_is() -> None:
    answer, body = fetch("css/app.css", **{"accept-encoding": "gzip", "range": "bytes=0-9"})
    assert answer.status_code == 206
    assert body == (ROOT / "static/css/app.css").read_bytes()[:10]
