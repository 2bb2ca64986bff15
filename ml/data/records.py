"""Reads JSON (a list of objects, or an object with such a list under "data") and JSON Lines."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from ml.data.content import (
    MAX_COLUMNS,
    MAX_LINE_BYTES,
    Column,
    DataError,
    Rows,
    check_names,
)
from ml.data.text import BOM, check_text

CHAT = "messages"
"""The column that may hold lists: chats, as language models are taught with them."""
INT64 = range(-(2**63), 2**63)
KINDS: dict[type, str] = {bool: "a truth value", int: "a number", float: "a number", str: "a text"}


def read_json(path: Path) -> Rows:
    if check_text(path, limit_lines=False).is_blank:
        raise DataError("The file is empty.")
    data = path.read_bytes()
    start = len(BOM) if data.startswith(BOM) else 0
    try:
        document = orjson.loads(data[start:])
    except orjson.JSONDecodeError as error:
        byte = start + len(error.doc[: error.pos].encode())
        raise DataError(
            f"Byte {byte:,} (line {error.lineno}): {_cause(error)}", byte=byte
        ) from None
    return _rows_of(_records(document))


def read_jsonl(path: Path) -> Rows:
    if check_text(path, limit_lines=True).is_blank:
        raise DataError("The file is empty.")
    return _rows_of(_lines(path))


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


def _lines(path: Path) -> Iterator[Any]:
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
                yield orjson.loads(text)
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


def _rows_of(records: Iterable[Any]) -> Rows:
    """Turn objects into columns; a key that a row lacks is a missing value."""
    lists: dict[str, list[Any]] = {}
    count = 0
    for count, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise DataError(
                f"Row {count} is {_kind(record)}; each row must be an object"
                ' such as {"x": 1, "label": "a"}.',
                row=count,
            )
        for name, value in record.items():
            values = lists.setdefault(name, [])
            values.extend([None] * (count - 1 - len(values)))
            values.append(_checked(value, name, count))
        if len(lists) > MAX_COLUMNS:
            check_names(list(lists))
    check_names(list(lists))
    if not lists:
        raise DataError("The rows of the file are empty objects.")
    for values in lists.values():
        values.extend([None] * (count - len(values)))
    return Rows([_column(name, values) for name, values in lists.items()])


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


def _column(name: str, values: list[Any]) -> Column:
    types = {type(value) for value in values if value is not None}
    if len({KINDS[found] for found in types}) > 1:
        raise _mixed(name, values)
    if types <= {str}:
        array = np.empty(len(values), dtype=object)
        array[:] = values
        return Column(name, "string", array)
    is_whole = types <= {int, bool} and all(value is None or value in INT64 for value in values)
    if not is_whole or None in values:
        floats = np.array([np.nan if v is None else float(v) for v in values], dtype=np.float64)
    if bool in types:
        return Column(name, "boolean", floats if None in values else np.array(values, dtype=bool))
    if is_whole:
        whole = floats if None in values else np.array(values, dtype=np.int64)
        return Column(name, "integer", whole)
    return Column(name, "number", floats)


def _mixed(name: str, values: list[Any]) -> DataError:
    known = [(row, value) for row, value in enumerate(values, 1) if value is not None]
    first = _kind(known[0][1])
    row, other = next((row, value) for row, value in known if _kind(value) != first)
    return DataError(
        f"Row {row}, column {name!r}: the value is {_kind(other)}, in the rows before it is"
        f" {first}; use one kind in a column, and null where a value is missing.",
        row=row,
        column=name,
    )
