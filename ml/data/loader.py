"""Takes in a file and opens a dataset version: `load(folder)` gives a Table or Images.

What a file holds is written once, as rows and pixels that can be read part by part.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ml.data.arrays import read_npy, read_npz
from ml.data.content import (
    Array,
    Column,
    Content,
    DataError,
    Images,
    Pictures,
    Rows,
    Table,
)
from ml.data.delimited import read_delimited
from ml.data.parts import find_groups, find_splits, part_columns
from ml.data.pixels import (
    PIXELS_FILE,
    PictureStream,
    StoredPictures,
    collect_pictures,
    write_pictures,
)
from ml.data.plain import read_text
from ml.data.records import read_json, read_jsonl
from ml.data.stored import StoredRows, Stream, collect_rows, open_rows, write_rows
from ml.data.target import MAX_CLASSES, choose_target, classes_of, count_texts


def _read_parquet(path: Path) -> Stream:
    from ml.data.parquet import read_parquet  # half of pyarrow: only for those who need it

    return read_parquet(path)


def _read_image_zip(path: Path) -> PictureStream:
    from ml.data.images import read_image_zip  # Pillow: only for those who need it

    return read_image_zip(path)


READERS: dict[str, Callable[[Path], Stream | PictureStream]] = {
    "csv": read_delimited,
    "tsv": lambda path: read_delimited(path, "\t"),
    "json": read_json,
    "jsonl": read_jsonl,
    "npy": read_npy,
    "npz": read_npz,
    "parquet": _read_parquet,
    "zip": _read_image_zip,
    "txt": read_text,
}


def store_content(path: Path, found_format: str, folder: Path) -> tuple[Content, dict[str, Any]]:
    """Write what a file of a known format holds into the folder, and what to open it with.

    Nothing but DataError (or MemoryError) for a bad file, and then nothing is left.
    """
    stream = READERS[found_format](path)
    if isinstance(stream, Stream):
        rows = write_rows(stream, folder)
        return rows, _facts_of(rows)
    write_pictures(stream, folder)
    labels = write_rows(_as_rows(stream.labels), folder)
    found = StoredPictures(folder / PIXELS_FILE, labels.columns[0], stream.warnings)
    return found, _facts_of(labels)


def load(path: Path, target: str | None = None) -> Table | Images:
    """Open the version folder `path`; `target` overrides the column that the schema names.

    Rows without a target and columns without any value are left out (the schema warned of both).
    Raises DataError.
    """
    schema = read_version_schema(path)
    content = read_version(path, schema)
    wanted = target or schema["target"]
    if isinstance(content, Pictures):
        return _images(content, wanted)
    if content.unit is not None:
        raise DataError("The dataset is plain text: it has no column to learn.")
    return _table(content, wanted)


def read_version(path: Path, schema: dict[str, Any]) -> Content:
    """What a version folder holds. One from before rows were stored is read into memory."""
    if "stored" not in schema:
        return collect_content(path / schema["file"], schema["format"])
    rows = open_rows(path, schema["stored"])
    if schema["kind"] != "image":
        return rows
    image = schema["columns"][0]
    return StoredPictures(path / PIXELS_FILE, rows.columns[0], extent=(image["min"], image["max"]))


def collect_content(path: Path, found_format: str) -> Content:
    """What a file of a known format holds, in memory."""
    stream = READERS[found_format](path)
    return collect_rows(stream) if isinstance(stream, Stream) else collect_pictures(stream)


def _facts_of(rows: StoredRows) -> dict[str, Any]:
    return {"batches": rows.facts.batches, "nulls": rows.facts.nulls, "unit": rows.unit}


def _as_rows(labels: Column) -> Stream:
    batch = pa.record_batch([pa.array(labels.values, from_pandas=False)], names=[labels.name])
    return Stream(iter([batch]))


def read_version_schema(path: Path) -> dict[str, Any]:
    try:
        schema: dict[str, Any] = json.loads((path / "schema.json").read_text())
    except FileNotFoundError:
        raise DataError(f"{path} is no dataset version: it has no schema.json.") from None
    if not (path / schema["file"]).is_file():
        raise DataError(f"The data file of this dataset version is gone: {path / schema['file']}")
    return schema


def _images(pictures: Pictures, target: str) -> Images:
    if target != pictures.labels.name:
        raise DataError(
            f"There is no {target!r} to be the target; the labels are called"
            f" {pictures.labels.name!r}.",
            column=target,
            code="unknown_target",
        )
    return Images(pictures.pixels, target_values(pictures.labels, np.arange(len(pictures))))


def _table(rows: Rows, wanted: str) -> Table:
    name, _ = choose_target(rows, wanted)
    target = rows.column(name)
    keep = np.flatnonzero(~target.missing)
    if not len(keep):
        raise DataError(f"The target column {name!r} has no values.", column=name)
    placed = part_columns(rows)
    names = [
        column.name
        for column in rows.columns
        if column is not target and column.name not in placed and not column.is_empty
    ]
    splits, groups = find_splits(rows), find_groups(rows)
    return Table(
        rows,
        names,
        keep,
        target_values(target, keep),
        name,
        splits=None if splits is None else splits[keep],
        groups=None if groups is None else groups[keep],
    )


def target_values(column: Column, keep: NDArray[np.int64]) -> Array:
    """What is to be learned of these rows."""
    if column.type == "string" and classes_of(column) is None:
        raise DataError(
            f"The target {column.name!r} has {count_texts(column):,} different texts; at most"
            f" {MAX_CLASSES:,} can be classes. Choose another target.",
            column=column.name,
        )
    return _as_target(Column(column.name, column.type, column.values[keep]))


def _as_target(column: Column) -> Array:
    """Truth values become the classes "false" and "true"; whole numbers are int64 again."""
    if column.type == "boolean":
        return np.array(["false", "true"], dtype=object)[column.values.astype(np.int64)]
    if column.type == "integer":
        return column.values.astype(np.int64)
    return column.values
