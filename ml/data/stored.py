"""Rows on disk: one Arrow file a version, written batch by batch and read batch by batch.

So memory holds a batch, and a few bytes for each row where a question needs all of them (a
target, hashes), however large the file is. It is read, never mapped: the children that describe
datasets have little address space. https://arrow.apache.org/docs/format/IPC.html
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ml.data.content import Array, Column, ColumnType, DataError, Rows, find_missing, hash_values

ROWS_FILE = "rows.arrow"
BATCH_BYTES = 4 * 2**20
"""About as much as readers put into a batch."""
BATCH_ROWS = 20_000
KEPT_BYTES = 16 * 2**20
"""Files up to this size stay in memory; of others as much of the columns that are asked for."""
TYPES: dict[pa.DataType, ColumnType] = {
    pa.int64(): "integer",
    pa.float64(): "number",
    pa.bool_(): "boolean",
    pa.string(): "string",
}
Read = Callable[[Sequence[str], Iterable[int]], Iterator[pa.RecordBatch]]
"""Gives the batches of these numbers with these columns."""


@dataclass(frozen=True)
class Stream:
    """A file of rows while it is read.

    Columns are null, bool, int64, float64 or string. What is null or int64 in one batch may be
    wider in another, and a column may begin late: it is missing before.
    """

    batches: Iterator[pa.RecordBatch]
    target: str | None = None
    warnings: list[str] = field(default_factory=list)
    """Complete when the batches are used up."""
    unit: Literal["line", "paragraph"] | None = None


@dataclass
class Facts:
    """What is known of all rows when the last one is written."""

    schema: pa.Schema = field(default_factory=lambda: pa.schema([]))
    batches: list[int] = field(default_factory=list)
    """How many rows each has."""
    nulls: dict[str, int] = field(default_factory=dict)
    """Missing values of each column; NaN is one."""

    def add(self, batch: pa.RecordBatch) -> None:
        self.schema = _widen(self.schema, batch.schema)
        for name in self.schema.names:
            missing = _count_missing(batch, name)
            self.nulls[name] = self.nulls.get(name, sum(self.batches)) + missing
        self.batches.append(len(batch))

    def close(self) -> None:
        """A column without any value is one of texts that are all missing."""
        known = [(each.name, each.type) for each in self.schema]
        self.schema = pa.schema(
            [(name, pa.string() if kind == pa.null() else kind) for name, kind in known]
        )


# --- Writing ------------------------------------------------------------------------------


def write_rows(stream: Stream, folder: Path) -> StoredRows:
    """Write ROWS_FILE; raises what reading the stream does, and then leaves nothing behind."""
    path, facts = folder / ROWS_FILE, Facts()
    pieces: list[Path] = []
    try:
        _write_pieces(stream.batches, facts, path, pieces)
        _join(pieces, facts.schema, path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        for piece in pieces:
            piece.unlink(missing_ok=True)
    return StoredRows(_reader(path), facts, stream.target, stream.warnings, stream.unit)


def collect_rows(stream: Stream) -> StoredRows:
    """The same in memory."""
    batches, facts = [], Facts()
    for batch in stream.batches:
        facts.add(batch)
        batches.append(batch)
    facts.close()
    read = _in_memory([_fit(batch, facts.schema) for batch in batches])
    return StoredRows(read, facts, stream.target, stream.warnings, stream.unit)


def _write_pieces(
    batches: Iterable[pa.RecordBatch], facts: Facts, path: Path, pieces: list[Path]
) -> None:
    """A new piece whenever a batch widens the schema; nearly always there is one."""
    writer = None
    try:
        for batch in batches:
            before = facts.schema
            facts.add(batch)
            if writer is None or facts.schema != before:
                if writer is not None:
                    writer.close()
                pieces.append(path.with_name(f"{path.name}.{len(pieces)}"))
                writer = pa.ipc.new_file(str(pieces[-1]), facts.schema)
            writer.write_batch(_fit(batch, facts.schema))
    finally:
        if writer is not None:
            writer.close()
    facts.close()


def _join(pieces: list[Path], schema: pa.Schema, path: Path) -> None:
    """One durable file of all pieces."""
    if len(pieces) == 1 and _schema_of(pieces[0]) == schema:
        pieces[0].rename(path)
    else:
        with pa.ipc.new_file(str(path), schema) as writer:
            for piece in pieces:
                for batch in _all_of(piece):
                    writer.write_batch(_fit(batch, schema))
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _count_missing(batch: pa.RecordBatch, name: str) -> int:
    if name not in batch.schema.names:
        return len(batch)
    return pc.sum(pc.is_null(batch.column(name), nan_is_null=True)).as_py() or 0


def _widen(known: pa.Schema, more: pa.Schema) -> pa.Schema:
    kinds = {each.name: each.type for each in known}
    for each in more:
        kinds[each.name] = _wider(kinds.get(each.name, pa.null()), each.type)
    return pa.schema(list(kinds.items()))


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """The type that values of both fit into."""
    if other in (one, pa.null()):
        return one
    if one == pa.null():
        return other
    if {one, other} == {pa.int64(), pa.float64()}:
        return pa.float64()
    raise TypeError(f"a column cannot hold {one} and {other}")


def _fit(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    if batch.schema == schema:
        return batch
    there = set(batch.schema.names)
    arrays = [
        batch.column(each.name).cast(each.type, safe=False)
        if each.name in there
        else pa.nulls(len(batch), each.type)
        for each in schema
    ]
    return pa.record_batch(arrays, schema=schema)


# --- Reading ------------------------------------------------------------------------------


def open_rows(folder: Path, stored: Mapping[str, Any]) -> StoredRows:
    """What write_rows() wrote: {batches, nulls} of its facts, and the unit of its stream."""
    path = folder / ROWS_FILE
    if not path.is_file():
        raise DataError(f"The rows of this dataset version are gone: {path}")
    facts = Facts(_schema_of(path), stored["batches"], stored["nulls"])
    return StoredRows(_reader(path), facts, unit=stored["unit"])


def _reader(path: Path) -> Read:
    if path.stat().st_size <= KEPT_BYTES:
        return _in_memory(list(_all_of(path)))
    return lambda names, numbers: _from_file(path, names, numbers)


def _all_of(path: Path) -> Iterator[pa.RecordBatch]:
    return _from_file(path, None, None)


def _from_file(
    path: Path, names: Sequence[str] | None, numbers: Iterable[int] | None
) -> Iterator[pa.RecordBatch]:
    """Of each batch no more is read than these columns."""
    fields = None if names is None else [_schema_of(path).get_field_index(each) for each in names]
    with _opened(path, fields) as reader:
        for number in range(reader.num_record_batches) if numbers is None else numbers:
            yield reader.get_batch(int(number))


def _schema_of(path: Path) -> pa.Schema:
    with _opened(path) as reader:
        return reader.schema


@contextmanager
def _opened(path: Path, fields: list[int] | None = None) -> Iterator[pa.ipc.RecordBatchFileReader]:
    options = pa.ipc.IpcReadOptions(use_threads=False, included_fields=fields)
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_file(file, options=options) as reader:
            yield reader
    except pa.ArrowInvalid as error:
        sentence = "The stored rows of this dataset version are damaged; upload its file again"
        raise DataError(f"{sentence} ({path}: {str(error)[:200]}).") from error


def _in_memory(batches: list[pa.RecordBatch]) -> Read:
    return lambda names, numbers: (batches[number].select(names) for number in numbers)


class StoredRows(Rows):
    """Rows that lie in a file, or as Arrow batches in memory where they are few."""

    def __init__(
        self,
        read: Read,
        facts: Facts,
        target: str | None = None,
        warnings: Sequence[str] = (),
        unit: Literal["line", "paragraph"] | None = None,
    ) -> None:
        self.facts = facts
        columns = [StoredColumn(self, each.name, TYPES[each.type]) for each in facts.schema]
        super().__init__(columns, target, list(warnings), unit)
        self._read = read
        self._starts = np.concatenate([[0], np.cumsum(facts.batches, dtype=np.int64)])
        self._kept: dict[str, Array] = {}

    def __len__(self) -> int:
        return int(self._starts[-1])

    def batches(self, names: Collection[str] | None = None) -> Iterator[Rows]:
        for batch in self._read(self._ordered(names), range(len(self.facts.batches))):
            yield self._rows(batch)

    def take(self, rows: NDArray[np.int64], names: Collection[str]) -> Iterator[Rows]:
        places = np.searchsorted(rows, self._starts)
        wanted = np.flatnonzero(np.diff(places))  # batches without any of them are not read
        for number, batch in zip(wanted, self._read(self._ordered(names), wanted), strict=True):
            some = rows[places[number] : places[number + 1]] - self._starts[number]
            yield self._rows(batch).pick(some)

    def slice(self, start: int, end: int, names: Collection[str] | None = None) -> Rows:
        """A few rows in memory."""
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        last = int(np.searchsorted(self._starts, end, side="left"))
        found = self._read(self._ordered(names), range(first, last) if start < end else (0,))
        table = pa.Table.from_batches(list(found))
        if start >= end:
            return self._rows(table.to_batches()[0].slice(0, 0))
        part = table.slice(start - int(self._starts[first]), end - start)
        return self._rows(part.combine_chunks().to_batches()[0])

    def _ordered(self, names: Collection[str] | None) -> list[str]:
        return [name for name in self.facts.schema.names if names is None or name in names]

    def _rows(self, batch: pa.RecordBatch) -> Rows:
        pairs = zip(batch.schema.names, batch.columns, strict=True)
        kinds = {each.name: TYPES[each.type] for each in batch.schema}
        return Rows(
            [Column(name, kinds[name], self._as_numpy(name, array)) for name, array in pairs]
        )

    def _as_numpy(self, name: str, array: pa.Array) -> Array:
        """Whole numbers and truth values are floats in every batch, if any of them is missing."""
        if self.facts.nulls[name] and array.type in (pa.int64(), pa.bool_()):
            array = array.cast(pa.float64(), safe=False)
        values: Array = array.to_numpy(zero_copy_only=False)
        return values

    def numbers(self, name: str) -> Array:
        """Eight bytes a row: the values of a column, or the hashes of one of texts.

        Neighbours of its kind are read with it and kept until others are asked for.
        """
        if name not in self._kept:
            self._kept = {
                each: np.empty(len(self), self._dtype(each)) for each in self._neighbours(name)
            }
            start = 0
            for rows in self.batches(self._kept):
                for column in rows.columns:
                    # Copied: a view would keep the whole batch.
                    values = column.hashes if column.type == "string" else column.values
                    self._kept[column.name][start : start + len(rows)] = values
                start += len(rows)
        return self._kept[name]

    def _dtype(self, name: str) -> type[np.generic]:
        kind = TYPES[self.facts.schema.field(name).type]
        if kind == "string":
            return np.uint64
        if kind == "number" or self.facts.nulls[name]:
            return np.float64
        return np.int64 if kind == "integer" else np.bool_

    def _neighbours(self, name: str) -> list[str]:
        schema = self.facts.schema
        is_text = schema.field(name).type == pa.string()
        following = schema.names[schema.get_field_index(name) :]
        alike = [each for each in following if (schema.field(each).type == pa.string()) == is_text]
        return alike[: max(1, KEPT_BYTES // (8 * len(self)))]


class StoredColumn(Column):
    """A column of StoredRows: read when it is asked for."""

    def __init__(self, rows: StoredRows, name: str, type: ColumnType) -> None:
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "type", type)

    rows: StoredRows

    @property
    def values(self) -> Array:
        """All at once. Texts that are equal, and not far from each other, are one object."""
        if self.type != "string":
            return self.rows.numbers(self.name)
        found = np.empty(len(self), dtype=object)
        start = 0
        for column in self.batches():
            found[start : start + len(column)] = _share(column.values)
            start += len(column)
        return found

    @property
    def missing(self) -> NDArray[np.bool_]:
        return np.concatenate([find_missing(column.values) for column in self.batches()])

    @property
    def nulls(self) -> int:
        return self.rows.facts.nulls[self.name]

    @property
    def hashes(self) -> NDArray[np.uint64]:
        numbers = self.rows.numbers(self.name)
        return numbers if self.type == "string" else hash_values(numbers)

    def batches(self) -> Iterator[Column]:
        for rows in self.rows.batches([self.name]):
            yield rows.columns[0]

    def pick(self, row: int) -> Any:
        return self.rows.slice(row, row + 1, [self.name]).columns[0].values[0]

    def __len__(self) -> int:
        return len(self.rows)


def _share(texts: Array) -> Array:
    known: dict[Any, Any] = {}
    shared = np.empty(len(texts), dtype=object)
    shared[:] = [known.setdefault(text, text) for text in texts]
    return shared
