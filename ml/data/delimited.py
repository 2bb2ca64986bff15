"""Reads CSV and TSV through pyarrow, and finds the row where a file breaks.

pyarrow is fast and bounded but accepts an unclosed quote in silence, so suspicious
quotes are looked at again with the strict parser of the standard library.
"""

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from ml.data.content import (
    MAX_LINE_BYTES,
    Array,
    Column,
    ColumnType,
    DataError,
    Rows,
    check_finite,
    check_names,
)
from ml.data.text import check_text

DELIMITERS = (",", "\t", ";")
NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"
MOSTLY = 0.8
"""A text column with at least this share of numbers is probably one of numbers, with slips."""


def read_delimited(path: Path, delimiter: str | None = None) -> Rows:
    facts = check_text(path, limit_lines=True)
    if facts.is_blank:
        raise DataError("The file is empty.")
    header = first_line(path)
    delimiter = delimiter or guess_delimiter(header)
    names = _header_names(header, delimiter)
    table = _parse(path, delimiter, names)
    if facts.quotes % 2 or _has_line_breaks(table):
        _check_quotes(path, delimiter)
    if table.num_rows == 0:
        raise DataError("The file has a header but no rows.")
    columns, warnings = [], []
    for name, values in zip(names, table.columns, strict=True):
        columns.append(_column(name, values))
        warnings += _slips(name, values)
    return Rows(columns, warnings=warnings)


def first_line(path: Path) -> str:
    """The first line that is not blank, without a byte order mark; the text must be checked."""
    with path.open(encoding="utf-8-sig", newline=None) as stream:
        for line in iter(lambda: stream.readline(MAX_LINE_BYTES), ""):
            if line != "\n":
                return line.removesuffix("\n")
    return ""


def guess_delimiter(header: str) -> str:
    """The one that splits the header into most names; a comma where none does."""
    bare = re.sub(r'"[^"]*"', "", header)
    return max(DELIMITERS, key=bare.count)


def _header_names(header: str, delimiter: str) -> list[str]:
    csv.field_size_limit(MAX_LINE_BYTES)
    names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
    check_names(names)
    if all(re.match(NUMBER, name) for name in names):
        raise DataError(
            "The first line holds only numbers; a header with the column names is needed,"
            f" such as {delimiter.join(['x1', 'x2', 'label'])!r}."
        )
    return names


def _parse(path: Path, delimiter: str, names: list[str]) -> pa.Table:
    table = _parse_with_types(path, delimiter, names, {})
    dates = {
        name: pa.string()
        for name, column_type in zip(table.column_names, table.schema.types, strict=True)
        if pa.types.is_temporal(column_type) or pa.types.is_binary(column_type)
    }
    # Dates and times stay as they are written: a day is no quantity to learn from by itself.
    return _parse_with_types(path, delimiter, names, dates) if dates else table


def _parse_with_types(
    path: Path, delimiter: str, names: list[str], types: dict[str, pa.DataType]
) -> pa.Table:
    ragged: list[Any] = []

    def stop_at(row: Any) -> str:
        ragged.append(row)
        return "error"

    try:
        table = pacsv.read_csv(
            path,
            # One thread: only then does pyarrow know the numbers of rows.
            read_options=pacsv.ReadOptions(use_threads=False, block_size=2 * MAX_LINE_BYTES),
            parse_options=pacsv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=stop_at
            ),
            convert_options=pacsv.ConvertOptions(
                strings_can_be_null=True, quoted_strings_can_be_null=False, column_types=types
            ),
        )
    except pa.ArrowInvalid as error:
        raise _explained(error, ragged, path, delimiter) from None
    if table.num_columns != len(names):
        raise DataError(
            f"The header has {len(names)} names but the rows have {table.num_columns} columns."
        )
    return table


def _explained(error: pa.ArrowInvalid, ragged: list[Any], path: Path, delimiter: str) -> DataError:
    if ragged:
        # An unclosed quote shows as a ragged row further down: name the cause, not the symptom.
        _check_quotes(path, delimiter)
        row = ragged[0].number - 1
        return DataError(
            f"Row {row} has {_counted(ragged[0].actual_columns, 'value')},"
            f" the header has {_counted(ragged[0].expected_columns, 'column')}."
            " Put quotes around a value that contains the delimiter.",
            row=row,
        )
    if "straddl" in str(error) or "block size" in str(error):
        return DataError(
            f"A row is longer than {MAX_LINE_BYTES:,} bytes; is a closing quote missing?"
        )
    return DataError(f"The file cannot be read as a table: {error}")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _has_line_breaks(table: pa.Table) -> bool:
    return any(
        pc.any(pc.match_substring_regex(column, "[\r\n]")).as_py() or False
        for column in table.columns
        if pa.types.is_string(column.type)
    )


def _check_quotes(path: Path, delimiter: str) -> None:
    """Read once more, strictly; the row that opened a quote which never closes is the answer."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        row = -1  # the header becomes row 0
        try:
            for record in reader:
                row += bool(record)
        except csv.Error as error:
            where = f"Row {row + 1}" if row >= 0 else "The header"
            raise DataError(
                f"{where}: {_quote_sentence(error)}", row=row + 1 if row >= 0 else None
            ) from None


def _quote_sentence(error: csv.Error) -> str:
    if "end of data" in str(error):
        return "a quote is opened and never closed."
    if "expected after" in str(error):
        return (
            "text follows a closing quote; write a quote inside a quoted value twice,"
            ' or close the one that was opened before: "like ""this""".'
        )
    return f"the quotes cannot be understood ({error})."


def _column(name: str, values: pa.ChunkedArray) -> Column:
    """From Arrow to the few dtypes of `Column`."""
    if pa.types.is_string(values.type):
        return Column(name, "string", values.to_numpy())
    if pa.types.is_null(values.type):
        return Column(name, "string", np.full(len(values), None, dtype=object))
    column_type: ColumnType = "number"
    if pa.types.is_boolean(values.type):
        column_type = "boolean"
    elif pa.types.is_integer(values.type):
        column_type = "integer"
    array = _to_numpy(values)
    check_finite(name, array)
    return Column(name, column_type, array)


def _to_numpy(values: pa.ChunkedArray) -> Array:
    if values.null_count and not pa.types.is_floating(values.type):
        values = values.cast(pa.float64(), safe=False)
    array: Array = values.to_numpy()
    return array


def _slips(name: str, values: pa.ChunkedArray) -> list[str]:
    """Say so when a few words made a column of numbers into a column of text."""
    if not pa.types.is_string(values.type):
        return []
    known = len(values) - values.null_count
    numeric = pc.fill_null(pc.match_substring_regex(values, NUMBER), True)
    others = len(values) - (pc.sum(numeric).as_py() or 0)
    if not 0 < others <= (1 - MOSTLY) * known:
        return []
    row = pc.index(numeric, pa.scalar(False)).as_py()
    return [
        f"Column {name!r} is text because {others:,} of its {known:,} values are not numbers;"
        f" the first is {str(values[row].as_py())[:50]!r} in row {row + 1}."
    ]


def write_delimited(names: list[str], rows: list[list[Any]]) -> str:
    """CSV text of a small table, as the built-in datasets are stored."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([names, *rows])
    return text.getvalue()
