"""Turns a file into a dataset version: detect, read, store, describe, write schema.json and
preview.json.

Runs in a one-shot child (python -P -m ml.run import_dataset): the file is a stranger's.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ml.data.content import Content
from ml.data.detect import detect_format
from ml.data.loader import store_content
from ml.data.pixels import PIXELS_FILE
from ml.data.preview import PREVIEW_ROWS, preview_rows
from ml.data.schema import describe
from ml.data.stored import ROWS_FILE

SCHEMA_FILE, PREVIEW_FILE = "schema.json", "preview.json"


def import_dataset(
    folder: Path, file: str, hint: str | None = None, target: str | None = None
) -> dict[str, Any]:
    """Read `folder/file`, rename it to data.<format>, write what was found; returns the schema.

    Raises DataError, and then leaves the file as it was.
    """
    path = folder / file
    found = detect_format(path, hint)
    try:
        content, stored = store_content(path, found, folder)
        schema = {
            "format": found,
            "file": f"data.{found}",
            "stored": stored,
            **describe(content, target),
            "size_bytes": path.stat().st_size,
            "sha256": file_sha256(path),
        }
    except BaseException:
        for name in (ROWS_FILE, PIXELS_FILE):
            (folder / name).unlink(missing_ok=True)
        raise
    path.rename(folder / f"data.{found}")
    write_facts(folder, schema, content)
    return schema


def write_facts(folder: Path, schema: dict[str, Any], content: Content) -> None:
    _write(folder / SCHEMA_FILE, schema)
    _write(folder / PREVIEW_FILE, preview_rows(content, 0, PREVIEW_ROWS))


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write(path: Path, data: dict[str, Any]) -> None:
    with path.open("w") as stream:
        json.dump(data, stream, allow_nan=False)
        stream.flush()
        os.fsync(stream.fileno())
