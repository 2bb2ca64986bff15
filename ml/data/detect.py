"""Tells the format of a file from its content; a name's ending only breaks ties."""

from pathlib import Path

import orjson

from ml.data.archive import has_member
from ml.data.content import MAX_LINE_BYTES, DataError
from ml.data.delimited import first_line, guess_delimiter
from ml.data.npy import MAGIC
from ml.data.plain import looks_like_table
from ml.data.text import BOM, UTF16, check_text

FORMATS = ("csv", "tsv", "json", "jsonl", "npy", "npz", "parquet", "zip", "txt")
PARQUET = b"PAR1"
TEXT_HINTS = ("txt", "text", "md", "log")
"""Endings that promise no table: only what is one beyond doubt is then read as one."""

# What people upload by mistake, and what to do instead.
FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"PARE", "an encrypted Parquet file; save it without encryption"),
    (b"\x1f\x8b", "compressed with gzip; unpack it first"),
    (b"BZh", "compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ", "compressed with xz; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it first"),
    (b"\x89PNG", "a single image; put all images into a ZIP with one folder a class"),
    (b"\xff\xd8\xff", "a single image; put all images into a ZIP with one folder a class"),
    (b"%PDF", "a PDF; save its tables as CSV"),
    (b"\x89HDF", "an HDF5 file; save its arrays as NPZ"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file; save the sheet as CSV"),
    (b"ARROW1", "an Arrow file; save it as Parquet"),
    (b"SQLite format 3", "a SQLite database; save the table as CSV"),
    (b"\x80\x04", "a Python pickle, which is never loaded; save it as CSV or NPZ"),
    (b"\x80\x05", "a Python pickle, which is never loaded; save it as CSV or NPZ"),
)


def detect_format(path: Path, hint: str | None = None) -> str:
    """One of FORMATS; `hint` is what the file's name suggests, and may be wrong."""
    with path.open("rb") as stream:
        start = stream.read(64)
    if not start:
        raise DataError("The file is empty.")
    for magic, sentence in FOREIGN:
        if start.startswith(magic):
            raise DataError(f"The file is {sentence}.", code="unknown_format")
    if start.startswith(MAGIC):
        return "npy"
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "npz" if has_member(path, ".npy") else "zip"
    if start.startswith(PARQUET):
        return "parquet"
    return _text_format(path, hint)


def _text_format(path: Path, hint: str | None) -> str:
    with path.open("rb") as stream:
        if stream.read(2) in UTF16:
            check_text(path, limit_lines=False)
    line = _first_bytes(path)
    if not line:
        raise DataError("The file is empty.")
    if line.startswith(b"["):
        return "json"
    if line.startswith(b"{"):
        return _json_or_lines(path, line, hint)
    check_text(path, limit_lines=True)
    delimiter = guess_delimiter(first_line(path))
    if hint in TEXT_HINTS and not looks_like_table(path, delimiter):
        return "txt"
    if delimiter not in first_line(path) and hint == "tsv":
        return "tsv"
    return "tsv" if delimiter == "\t" else "csv"


def _first_bytes(path: Path) -> bytes:
    """The first line that is not blank, without a byte order mark and surrounding blanks."""
    with path.open("rb") as stream:
        for line in iter(lambda: stream.readline(MAX_LINE_BYTES), b""):
            if text := line.removeprefix(BOM).strip():
                return text
    return b""


def _json_or_lines(path: Path, line: bytes, hint: str | None) -> str:
    """An object in the first line is JSON Lines, unless it is the whole file and holds "data"."""
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        # A document over several lines, or a damaged first line: the name decides.
        return "jsonl" if hint == "jsonl" else "json"
    is_whole_document = isinstance(document.get("data"), list)
    return "json" if is_whole_document and hint != "jsonl" else "jsonl"
