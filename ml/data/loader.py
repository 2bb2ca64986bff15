"""Opens a dataset version for training: `load(folder)` gives a Table or Images."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

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
    Texts,
)
from ml.data.delimited import read_delimited
from ml.data.parts import find_groups, find_splits, part_columns
from ml.data.plain import read_text
from ml.data.records import read_json, read_jsonl
from ml.data.target import choose_target


def _read_parquet(path: Path) -> Content:
    from ml.data.parquet import read_parquet  # half of pyarrow: only for those who need it

    return read_parquet(path)


def _read_image_zip(path: Path) -> Content:
    from ml.data.images import read_image_zip  # Pillow: only for those who need it

    return read_image_zip(path)


READERS: dict[str, Callable[[Path], Content]] = {
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


def read_content(path: Path, found_format: str) -> Content:
    """Read a file of a known format; nothing but DataError (or MemoryError) for a bad one."""
    return READERS[found_format](path)


def load(path: Path, target: str | None = None) -> Table | Images:
    """Open the version folder `path`; `target` overrides the column that the schema names.

    Rows without a target and columns without any value are left out (the schema warned of both).
    Raises DataError.
    """
    schema = read_version_schema(path)
    content = read_version(path, schema)
    if isinstance(content, Texts):
        raise DataError("The dataset is plain text: it has no column to learn.")
    wanted = target or schema["target"]
    if isinstance(content, Pictures):
        return _images(content, wanted)
    return _table(content, wanted)


def read_version(path: Path, schema: dict[str, Any]) -> Content:
    """All that a version folder holds. Images were decoded once, when they were taken in."""
    if decoded := schema.get("decoded"):
        return read_npz(path / decoded)
    return read_content(path / schema["file"], schema["format"])


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
    return Images(pictures.pixels, as_target(pictures.labels))


def _table(rows: Rows, wanted: str) -> Table:
    name, _ = choose_target(rows, wanted)
    target = next(column for column in rows.columns if column.name == name)
    keep = ~target.missing
    if not keep.any():
        raise DataError(f"The target column {name!r} has no values.", column=name)
    placed = part_columns(rows)
    features = {
        column.name: as_feature(column)[keep]
        for column in rows.columns
        if column is not target and column.name not in placed and not column.is_empty
    }
    kept = Column(name, target.type, target.values[keep])
    splits, groups = find_splits(rows), find_groups(rows)
    return Table(
        features,
        as_target(kept),
        name,
        splits=None if splits is None else splits[keep],
        groups=None if groups is None else groups[keep],
    )


def as_feature(column: Column) -> Array:
    if column.values.dtype == np.bool_:
        return column.values.astype(np.int64)
    return column.values


def as_target(column: Column) -> Array:
    """Truth values become the classes "false" and "true"; whole numbers are int64 again."""
    if column.type == "boolean":
        return np.array(["false", "true"], dtype=object)[column.values.astype(np.int64)]
    if column.type == "integer":
        return column.values.astype(np.int64)
    return column.values
