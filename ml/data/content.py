"""What a dataset file turns out to hold: columns of rows, or images with labels.

What readers return and what the trainer gets is defined here; nothing here reads files.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
ColumnType = Literal["integer", "number", "boolean", "string"]

MAX_COLUMNS = 10_000
MAX_NAME_CHARACTERS = 200
MAX_LINE_BYTES = 10_000_000


class DataError(Exception):
    """A file cannot be learned from. The message is a sentence that names the place and the cure.

    `row` counts data rows from 1 (a header is not one); `byte` counts from 0.
    """

    def __init__(
        self,
        message: str,
        *,
        row: int | None = None,
        column: str | None = None,
        byte: int | None = None,
        code: str = "data_error",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.row = row
        self.column = column
        self.byte = byte
        self.code = code


@dataclass(frozen=True)
class Column:
    """One column. A missing value is None in text, NaN in numbers (whole ones become float64)."""

    name: str
    type: ColumnType
    values: Array

    @property
    def missing(self) -> NDArray[np.bool_]:
        if self.values.dtype.kind == "f":
            return np.isnan(self.values)
        if self.values.dtype.kind == "O":
            return np.fromiter((value is None for value in self.values), bool, len(self.values))
        return np.zeros(len(self.values), bool)

    @property
    def is_empty(self) -> bool:
        return bool(self.missing.all())


@dataclass(frozen=True)
class Rows:
    """A table as it stands in the file; `target` is what the format itself says, if it does."""

    columns: list[Column]
    target: str | None = None
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.columns[0].values)


@dataclass(frozen=True)
class Texts(Rows):
    """Plain text as one column; there is nothing to tell it by, so it has no target."""

    unit: Literal["line", "paragraph"] = "line"


@dataclass(frozen=True)
class Pictures:
    """Images (N, H, W, C), uint8 or float32, with one label each."""

    pixels: Array
    labels: Column
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.pixels)


Content = Rows | Pictures


@dataclass(frozen=True)
class Table:
    """Ready to train: features are float64 (NaN = missing), int64 or object (str or None)."""

    features: dict[str, Array]
    target: Array | None
    target_name: str | None
    splits: Array | None = None
    """train, validation or test for each row, where the dataset itself says so."""
    groups: Array | None = None
    """Rows of one group belong into one part."""


@dataclass(frozen=True)
class Images:
    """Ready to train: pixels (N, H, W, C) uint8 or float32; labels int64, float64 or text."""

    pixels: Array
    labels: Array


def check_names(names: list[str]) -> None:
    """Refuse column names that a person could not tell apart or point at."""
    if len(names) > MAX_COLUMNS:
        raise DataError(
            f"The file has {len(names):,} columns; at most {MAX_COLUMNS:,} can be read."
            " Wide data fits better as an array in an NPZ file."
        )
    seen: set[str] = set()
    for number, name in enumerate(names, 1):
        _check_name(name, number)
        if name in seen:
            raise DataError(
                f"Two columns are called {name!r}; give each its own name.", column=name
            )
        seen.add(name)


def _check_name(name: str, number: int) -> None:
    if not name.strip():
        raise DataError(
            f"Column {number} has no name; name it in the header, or leave it out"
            " (pandas: to_csv(index=False))."
        )
    if len(name) > MAX_NAME_CHARACTERS:
        raise DataError(
            f"The name of column {number} has {len(name):,} characters;"
            f" at most {MAX_NAME_CHARACTERS} are allowed. Is the header line missing?"
        )
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise DataError(
            f"The name of column {number} ({name!r}) has a line break or control character."
        )


def check_finite(name: str, values: Array) -> None:
    """NaN stands for a missing value; infinity stands for nothing one can learn from."""
    infinite = np.isinf(values)
    if infinite.any():
        row = int(np.argmax(infinite)) + 1
        raise DataError(
            f"Row {row}, column {name!r}: the value is infinite or too large for a number;"
            " correct it or leave it empty.",
            row=row,
            column=name,
        )
