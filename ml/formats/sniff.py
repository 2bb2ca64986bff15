"""Tells what a file is from its bytes. Nothing is loaded; a name's ending promises nothing.

Pickles are found in every wrapping that people use: bare, compressed (joblib), inside a ZIP
(torch.save), inside an array (numpy), or under a harmless name.
"""

import bz2
import lzma
import pickletools
import zipfile
import zlib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from ml.formats.header import HeaderError, read_header

Kind = Literal[  # "saved": by torch.save; "exported": by torch.export.save
    "safetensors",
    "json",
    "text",
    "zip",
    "tar",
    "saved",
    "exported",
    "torchscript",
    "pickle",
    "hdf5",
    "array",
    "broken_zip",
    "unknown",
]
START_BYTES = 4096
PICKLE_BYTES = 2**20
ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # the second: an empty one
EXPORTED = ("/archive_format", "serialized_exported_program.json")  # the second: torch ≤ 2.7
NUMPY, HDF5 = b"\x93NUMPY", b"\x89HDF"
TAR_MAGIC, TAR_MAGIC_AT = b"ustar", 257
COMPRESSED: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b", lambda data: zlib.decompressobj(31).decompress(data, START_BYTES)),
    (b"BZh", lambda data: bz2.BZ2Decompressor().decompress(data, START_BYTES)),
    (b"\xfd7zXZ", lambda data: lzma.LZMADecompressor().decompress(data, START_BYTES)),
    (b"\x78", lambda data: zlib.decompressobj().decompress(data, START_BYTES)),
)


def sniff(path: Path) -> Kind:
    """What the file holds; "zip" and "tar" (compressed or not) are plain archives."""
    with path.open("rb") as stream:
        start = stream.read(PICKLE_BYTES)
    # First: it begins with a number, which may look like anything.
    if start[8:9] == b"{" and _is_safetensors(path):
        return "safetensors"
    if start.startswith(ZIP):
        return _zip_kind(path)
    if start.startswith(NUMPY):
        return "pickle" if b"O'" in start[:START_BYTES] else "array"
    if start.startswith(HDF5):
        return "hdf5"
    if (inner := _uncompressed(start)) is not None:
        return "tar" if _is_tar(inner) else "pickle" if is_pickle(inner) else "unknown"
    if _is_tar(start):
        return "tar"
    if is_pickle(start):
        return "pickle"
    return _text_kind(start)


def is_pickle(start: bytes) -> bool:
    """Whether these bytes read as instructions of a pickle, without following any of them."""
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05" and len(start) > 2:
        return True
    try:
        [(_, _, end)] = deque(pickletools.genops(start), maxlen=1)
    except Exception:  # noqa: BLE001  (it raises nearly anything on what is no pickle)
        return False
    # It ends with its first STOP; a text that happens to begin like a pickle goes on.
    return end is not None and 0 < end == len(start.rstrip()) - 1


def _zip_kind(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return "broken_zip"
    if any(name.endswith(EXPORTED) for name in names):
        return "exported"
    if any(name.endswith("/constants.pkl") for name in names):
        return "torchscript"
    return "saved" if any(name.endswith("/data.pkl") for name in names) else "zip"


def _uncompressed(start: bytes) -> bytes | None:
    """The first bytes inside, where these are compressed."""
    for magic, decompress in COMPRESSED:
        if start.startswith(magic):
            try:
                return decompress(start)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
                return None
    return None


def _is_tar(start: bytes) -> bool:
    return start[TAR_MAGIC_AT : TAR_MAGIC_AT + len(TAR_MAGIC)] == TAR_MAGIC


def _is_safetensors(path: Path) -> bool:
    try:
        read_header(path)
    except HeaderError:
        return False
    return True


def _text_kind(start: bytes) -> Kind:
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError as error:
        # The last character may be cut in two.
        text = start[: error.start].decode("utf-8") if error.start >= len(start) - 3 else "\0"
    if not text or "\0" in text:
        return "unknown"
    return "json" if text.lstrip().startswith("{") else "text"
