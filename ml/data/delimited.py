"""Reads CSV and TSV through pyarrow, batch by batch, and finds the row where a file breaks.

The file is read twice: first as text, to find out what every value of a column can be taken for,
then with these types. pyarrow is fast and bounded but accepts an unclosed quote in silence, so
suspicious quotes are looked at again with the strict parser of the standard library.
"""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from ml.data.content import MAX_LINE_BYTES, DataError, check_finite, check_names
from ml.data.stored import BATCH_ROWS, Stream
from ml.data.text import TextFacts, check_text

DELIMITERS = (",", "\t", ";")
NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"
BLOCK_BYTES = 2 * MAX_LINE_BYTES
"""A row must lie in one block, and a batch is what a block holds."""
TRUTH = pa.array(["0", "1", *(word for each in ("true", "false") for word in
                              (each, each.capitalize(), each.upper()))])  # fmt: skip
"""What pyarrow takes for a truth value."""
MOSTLY = 0.8
"""A text column with at least this share of numbers is probably one of numbers, with slips."""


def read_delimited(path: Path, delimiter: str | None = None) -> Stream:
    facts = check_text(path, limit_lines=True)
    if facts.is_blank:
        raise DataError("The file is empty.")
    header = first_line(path)
    delimiter = delimiter or guess_delimiter(header)
    reader = _Reader(path, delimiter, _header_names(header, delimiter))
    warnings: list[str] = []
    return Stream(_batches(reader, facts, warnings), warnings=warnings)


def _batches(reader: "_Reader", facts: TextFacts, warnings: list[str]) -> Iterator[pa.RecordBatch]:
    types = _find_types(reader)
    texts = [name for name, kind in types.items() if kind == pa.string()]
    slips = {name: _Slips(name) for name in texts}
    rows, is_suspicious = 0, facts.quotes % 2 == 1
    for batch in reader.read(types):
        for name, kind in types.items():
            if kind == pa.float64():
                check_finite(name, batch[name].to_numpy(zero_copy_only=False), rows)
        for name, found in slips.items():
            is_suspicious = is_suspicious or _has_line_break(batch[name])
            found.add(batch[name], rows)
        rows += len(batch)
        yield batch
    if is_suspicious:
        _check_quotes(reader.path, reader.delimiter)
    warnings += [sentence for found in slips.values() for sentence in found.tell()]


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


@dataclass(frozen=True)
class _Reader:
    path: Path
    delimiter: str
    names: list[str]

    def read(self, types: dict[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
        ragged: list[Any] = []

        def stop_at(row: Any) -> str:
            ragged.append(row)
            return "error"

        try:
            with pacsv.open_csv(
                self.path,
                # One thread: only then does pyarrow know the numbers of rows.
                read_options=pacsv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
                parse_options=pacsv.ParseOptions(
                    delimiter=self.delimiter, newlines_in_values=True, invalid_row_handler=stop_at
                ),
                convert_options=pacsv.ConvertOptions(
                    strings_can_be_null=True, quoted_strings_can_be_null=False, column_types=types
                ),
            ) as batches:
                if len(batches.schema) != len(self.names):
                    raise DataError(
                        f"The header has {len(self.names)} names but the rows have"
                        f" {len(batches.schema)} columns."
                    )
                for batch in batches:
                    named = batch.rename_columns(self.names)
                    for start in range(0, len(named), BATCH_ROWS):
                        yield named.slice(start, BATCH_ROWS)
        except pa.ArrowInvalid as error:
            raise _explained(error, ragged, self.path, self.delimiter) from None


def _find_types(reader: _Reader) -> dict[str, pa.DataType]:
    """What every value of a column can be taken for, in pyarrow's order of preference.

    Dates and times stay as they are written: a day is no quantity to learn from by itself.
    """
    fitting = {name: [pa.int64(), pa.bool_(), pa.float64()] for name in reader.names}
    has_values = dict.fromkeys(reader.names, False)
    rows = 0
    for batch in reader.read(dict.fromkeys(reader.names, pa.string())):
        rows += len(batch)
        for name, kinds in fitting.items():
            values = batch[name]
            if values.null_count < len(values):
                has_values[name] = True
                fitting[name] = [kind for kind in kinds if _can_be(values, kind)]
    if not rows:
        raise DataError("The file has a header but no rows.")
    return {
        name: kinds[0] if kinds and has_values[name] else pa.string()
        for name, kinds in fitting.items()
    }


def _can_be(texts: pa.Array, kind: pa.DataType) -> bool:
    if kind == pa.bool_():
        return pc.all(pc.is_in(texts.drop_null(), TRUTH)).as_py() is True
    try:
        pc.cast(pc.utf8_trim(texts, " \t"), kind)
    except pa.ArrowInvalid:
        return False
    return True


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


def _has_line_break(texts: pa.Array) -> bool:
    return pc.any(pc.match_substring_regex(texts, "[\r\n]")).as_py() is True


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


class _Slips:
    """Says so when a few words made a column of numbers into a column of text."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.known = self.others = 0
        self.first = ""

    def add(self, texts: pa.Array, rows_before: int) -> None:
        self.known += len(texts) - texts.null_count
        is_number = pc.fill_null(pc.match_substring_regex(texts, NUMBER), True)
        others = len(texts) - (pc.sum(is_number).as_py() or 0)
        if others and not self.others:
            row = pc.index(is_number, pa.scalar(False)).as_py()
            self.first = f"{str(texts[row].as_py())[:50]!r} in row {rows_before + row + 1}"
        self.others += others

    def tell(self) -> list[str]:
        if not 0 < self.others <= (1 - MOSTLY) * self.known:
            return []
        return [
            f"Column {self.name!r} is text because {self.others:,} of its {self.known:,} values"
            f" are not numbers; the first is {self.first}."
        ]


def write_delimited(names: list[str], rows: list[list[Any]]) -> str:
    """CSV text of a small table, as the built-in datasets are stored."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([names, *rows])
    return text.getvalue()
