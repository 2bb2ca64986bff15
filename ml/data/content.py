"""What a dataset file turns out to hold: columns of rows, or images with labels.

What describes a dataset and what the trainer gets is defined here; nothing here reads files.
Rows may be more than memory holds: whoever looks at all of them takes them batch by batch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
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
        return find_missing(self.values)

    @property
    def nulls(self) -> int:
        return int(self.missing.sum())

    @property
    def is_empty(self) -> bool:
        return self.nulls == len(self)

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """A number for each row: equal values have equal ones, within this process."""
        return hash_values(self.values)

    def batches(self) -> Iterator[Column]:
        """The column in parts, in order."""
        yield self

    def pick(self, row: int) -> Any:
        return self.values[row]

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Rows:
    """A table as it stands in the file; `target` is what the format itself says, if it does."""

    columns: Sequence[Column]
    target: str | None = None
    warnings: list[str] = field(default_factory=list)
    unit: Literal["line", "paragraph"] | None = None
    """What a row of plain text is, which is one column; None for a table."""

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def batches(self, names: Collection[str] | None = None) -> Iterator[Rows]:
        """The rows in parts, in order; with these columns only, where they are named."""
        yield Rows([each for each in self.columns if names is None or each.name in names])

    def take(self, rows: NDArray[np.int64], names: Collection[str]) -> Iterator[Rows]:
        """Rows of these numbers, which rise, in parts; with these columns."""
        start = 0
        for batch in self.batches(names):
            first, last = np.searchsorted(rows, (start, start + len(batch)))
            if first < last:
                yield batch.pick(rows[first:last] - start)
            start += len(batch)

    def pick(self, rows: NDArray[np.int64]) -> Rows:
        """These of rows that are in memory."""
        return Rows([Column(each.name, each.type, each.values[rows]) for each in self.columns])

    def slice(self, start: int, end: int) -> Rows:
        """A few rows, in memory."""
        return Rows([Column(each.name, each.type, each.values[start:end]) for each in self.columns])

    def __len__(self) -> int:
        return len(self.columns[0])


def find_missing(values: Array) -> NDArray[np.bool_]:
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind == "O":
        return np.fromiter((value is None for value in values), bool, len(values))
    return np.zeros(len(values), bool)


def hash_values(values: Array) -> NDArray[np.uint64]:
    if values.dtype.kind == "O":
        # Equal texts have equal hashes within one process, which is all that is asked.
        hashes = np.fromiter((hash(value) for value in values), np.int64, len(values))
        return hashes.view(np.uint64)
    if values.dtype.kind != "f":
        return values.astype(np.int64).view(np.uint64)
    numbers = values + 0.0  # -0.0 becomes 0.0
    numbers[np.isnan(numbers)] = np.nan  # one NaN for all
    return numbers.view(np.uint64)


@dataclass(frozen=True)
class Pictures:
    """Images (N, H, W, C), uint8 or float32, with one label each."""

    pixels: Array
    labels: Column
    warnings: list[str] = field(default_factory=list)

    def batches(self) -> Iterator[Array]:
        """The images in parts, in order."""
        yield self.pixels

    def slice(self, start: int, end: int) -> Array:
        return self.pixels[start:end]

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.pixels.shape
        return shape

    @property
    def extent(self) -> tuple[float, float]:
        """The smallest and the largest value of any pixel."""
        extents = [(part.min().item(), part.max().item()) for part in self.batches()]
        return min(low for low, _ in extents), max(high for _, high in extents)

    def __len__(self) -> int:
        return self.shape[0]


Content = Rows | Pictures


@dataclass(frozen=True)
class Table:
    """Ready to train: features are float64 (NaN = missing), int64 or object (str or None)."""

    rows: Rows
    names: list[str]
    """Columns to learn from."""
    keep: NDArray[np.int64]
    """Rows to learn from; whatever else stands here is of these alone."""
    target: Array
    target_name: str
    splits: Array | None = None
    """train, validation or test for each row, where the dataset itself says so."""
    groups: Array | None = None
    """Rows of one number belong into one part."""

    @property
    def features(self) -> Mapping[str, Array]:
        """Each column as a whole when it is asked for, and not kept."""
        return _Features(self)

    def batches(self, names: Collection[str]) -> Iterator[dict[str, Array]]:
        """These features of the rows, in parts and in order."""
        for rows in self.rows.take(self.keep, names):
            yield {column.name: as_feature(column.values) for column in rows.columns}

    def __len__(self) -> int:
        return len(self.keep)


@dataclass(frozen=True)
class _Features(Mapping[str, Array]):
    table: Table

    def __getitem__(self, name: str) -> Array:
        if name not in self.table.names:
            raise KeyError(name)
        return as_feature(self.table.rows.column(name).values)[self.table.keep]

    def __iter__(self) -> Iterator[str]:
        return iter(self.table.names)

    def __len__(self) -> int:
        return len(self.table.names)


def as_feature(values: Array) -> Array:
    return values.astype(np.int64) if values.dtype == np.bool_ else values


@dataclass(frozen=True)
class Images:
    """Ready to train: pixels (N, H, W, C) uint8 or float32, mapped from a file as a rule; labels
    int64, float64 or text."""

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


def check_finite(name: str, values: Array, rows_before: int = 0) -> None:
    """NaN stands for a missing value; infinity stands for nothing one can learn from."""
    infinite = np.isinf(values)
    if infinite.any():
        row = rows_before + int(np.argmax(infinite)) + 1
        raise DataError(
            f"Row {row}, column {name!r}: the value is infinite or too large for a number;"
            " correct it or leave it empty.",
            row=row,
            column=name,
        )
