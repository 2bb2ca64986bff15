"""Reads JSON (a list of objects, or an object with such a list under "data") and JSON Lines.

JSON Lines go through memory batch by batch; a JSON document has to be there as a whole.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from ml.data.content import MAX_COLUMNS, MAX_LINE_BYTES, DataError, check_names
from ml.data.stored import BATCH_BYTES, BATCH_ROWS, Stream
from ml.data.text import BOM, check_text

CHAT = "messages"
"""The column that may hold lists: chats, as language models are taught with them."""
INT64 = range(-(2**63), 2**63)
Record = tuple[Any, int]
"""What stands in a row, and how many bytes of the file that takes."""
KINDS: dict[type, str] = {bool: "a truth value", int: "a number", float: "a number", str: "a text"}


def read_json(path: Path) -> Stream:
    if check_text(path, limit_lines=False).is_blank:
        raise DataError("The file is empty.")
    data = path.read_bytes()
    start = len(BOM) if data.startswith(BOM) else 0
    try:
        document = orjson.loads(data[start:])
    except orjson.JSONDecodeError as error:
        if error.msg.startswith("Not enough memory"):
            raise MemoryError from None
        byte = start + len(error.doc[: error.pos].encode())
        raise DataError(
            f"Byte {byte:,} (line {error.lineno}): {_cause(error)}", byte=byte
        ) from None
    records = _records(document)
    mean = len(data) // len(records)
    return Stream(_batches((record, mean) for record in records))


def read_jsonl(path: Path) -> Stream:
    if check_text(path, limit_lines=True).is_blank:
        raise DataError("The file is empty.")
    return Stream(_batches(_lines(path)))


def _records(document: Any) -> list[Any]:
    if isinstance(document, dict):
        document = document.get("data")
        if not isinstance(document, list):
            raise DataError(
                'The file holds a JSON object without a list under "data";'
                ' write [{"column": value, …}, …] or {"data": [{…}, …]}.'
            )
    if not isinstance(document, list):
        raise DataError("The file holds a single JSON value; a list of objects is needed.")
    if not document:
        raise DataError("The list in the file is empty.")
    return document


def _lines(path: Path) -> Iterator[Record]:
    row = 0
    with path.open("rb") as stream:
        for number, line in enumerate(stream):
            text = line.removeprefix(BOM).strip() if number == 0 else line.strip()
            if not text:
                continue
            row += 1
            if len(text) > MAX_LINE_BYTES:
                raise DataError(f"Row {row} is longer than {MAX_LINE_BYTES:,} bytes.", row=row)
            try:
                yield orjson.loads(text), len(text)
            except orjson.JSONDecodeError as error:
                raise DataError(
                    f"Row {row}, character {error.pos + 1}: {_cause(error)}", row=row
                ) from None


def _cause(error: orjson.JSONDecodeError) -> str:
    rest = error.doc[error.pos : error.pos + 9].lstrip("-")
    if rest.startswith(("NaN", "Inf", "nan", "inf")) or "infinity" in error.msg:
        return "NaN and Infinity are not JSON; write null for a missing value."
    if "surrogate" in error.msg:
        return "half of a surrogate pair (\\ud800–\\udfff) stands alone, which is not text."
    if "end of data" in error.msg:
        return "the file ends too early; a bracket or a quote is not closed."
    if "depth" in error.msg:
        return "the values are nested too deeply; a table needs one flat object a row."
    return f"this is not JSON: {error.msg}."


def _batches(records: Iterable[Record]) -> Iterator[pa.RecordBatch]:
    """Turn objects into columns; a key that a row lacks is a missing value."""
    batch = _Batch(rows_before=0, kinds={})
    for record, size_bytes in records:
        batch.add(record, size_bytes)
        if batch.is_full:
            yield batch.close()
            batch = _Batch(rows_before=batch.rows_before + batch.rows, kinds=batch.kinds)
    if not batch.kinds and not batch.lists:
        raise DataError("The rows of the file are empty objects.")
    if batch.rows:
        yield batch.close()


@dataclass
class _Batch:
    rows_before: int
    kinds: dict[str, str]
    """What every column known so far holds, in words; empty until there is a value."""
    rows: int = 0
    size_bytes: int = 0
    lists: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def is_full(self) -> bool:
        """Rows without a name are nothing that could be written."""
        is_large = self.rows >= BATCH_ROWS or self.size_bytes >= BATCH_BYTES
        return is_large and bool(self.lists)

    def add(self, record: Any, size_bytes: int) -> None:
        row = self.rows_before + self.rows + 1
        if not isinstance(record, dict):
            raise DataError(
                f"Row {row} is {_kind(record)}; each row must be an object"
                ' such as {"x": 1, "label": "a"}.',
                row=row,
            )
        for name, value in record.items():
            values = self.lists.setdefault(name, [])
            values.extend([None] * (self.rows - len(values)))
            values.append(_checked(value, name, row))
        self.rows += 1
        self.size_bytes += size_bytes
        if len(self.lists) > MAX_COLUMNS:
            check_names(list(self.lists))

    def close(self) -> pa.RecordBatch:
        for name in self.lists:
            self.kinds.setdefault(name, "")
        names = list(self.kinds)
        check_names(names)
        return pa.record_batch([self._array(name) for name in names], names=names)

    def _array(self, name: str) -> pa.Array:
        values = self.lists.get(name, [])
        values.extend([None] * (self.rows - len(values)))
        self._check_kind(name, values)
        return _array(values)

    def _check_kind(self, name: str, values: list[Any]) -> None:
        found = {KINDS[kind] for kind in {type(value) for value in values} if kind in KINDS}
        known = self.kinds[name]
        if len(found | ({known} if known else set())) > 1:
            raise _mixed(name, values, known, self.rows_before)
        self.kinds[name] = known or next(iter(found), "")


def _checked(value: Any, name: str, row: int) -> Any:
    if isinstance(value, list) and name.lower() == CHAT:
        value = orjson.dumps(value).decode()
    if isinstance(value, (dict, list)):
        raise DataError(
            f"Row {row}, column {name!r}: the value is {_kind(value)};"
            " give each of its parts a column of its own.",
            row=row,
            column=name,
        )
    if isinstance(value, str) and "\0" in value:
        raise DataError(
            f"Row {row}, column {name!r}: the text contains a NUL character.", row=row, column=name
        )
    return value


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "a nested object"
    if isinstance(value, list):
        return "a list"
    return KINDS.get(type(value), "null")


def _array(values: list[Any]) -> pa.Array:
    """Numbers are whole if all of them are, and within 64 bits."""
    types = {type(value) for value in values if value is not None}
    is_number = bool(types) and types <= {int, float}
    if is_number and (
        float in types or not all(value is None or value in INT64 for value in values)
    ):
        return pa.array([None if value is None else float(value) for value in values])
    return pa.array(values)


def _mixed(name: str, values: list[Any], known: str, rows_before: int) -> DataError:
    rows = enumerate(values, rows_before + 1)
    kinds = [(row, _kind(value)) for row, value in rows if value is not None]
    first = known or kinds[0][1]
    row, other = next((row, kind) for row, kind in kinds if kind != first)
    return DataError(
        f"Row {row}, column {name!r}: the value is {other}, in the rows before it is"
        f" {first}; use one kind in a column, and null where a value is missing.",
        row=row,
        column=name,
    )
