"""Reads Parquet. What the metadata announces is judged before any page is decoded."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ml.data.content import MAX_COLUMNS, Array, Column, DataError, Rows, check_finite, check_names

MAGIC = b"PAR1"
MAX_FOOTER_BYTES = 16 * 2**20
MAX_DECODED_BYTES = 2 * 2**30
TEXT_BYTES = 32
"""What a text is reckoned at: a pointer and a short string."""
INDEX_COLUMNS = ("__index_level_0__",)


def read_parquet(path: Path) -> Rows:
    _check_footer(path)
    try:
        with pq.ParquetFile(
            path,
            thrift_string_size_limit=MAX_FOOTER_BYTES,
            thrift_container_size_limit=1_000_000,
        ) as file:
            warnings = _check_metadata(file)
            names = [name for name in file.schema_arrow.names if name not in INDEX_COLUMNS]
            table = file.read(columns=names, use_threads=False)
        table.validate(full=True)  # texts are UTF-8, offsets lie inside their buffers
    except pa.ArrowMemoryError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last: column names
        raise DataError(f"The Parquet file is damaged: {str(error)[:200]}") from error
    return Rows([_column(name, table[name]) for name in names], warnings=warnings)


def _check_footer(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(max(0, size - 8))
        tail = stream.read()
    if size < 12 or tail[4:] != MAGIC:
        raise DataError("The Parquet file ends too early; upload it again.")
    footer = int.from_bytes(tail[:4], "little")
    if footer > min(MAX_FOOTER_BYTES, size - 12):
        raise DataError(f"The Parquet file announces {footer:,} bytes of metadata; it is damaged.")


def _check_metadata(file: pq.ParquetFile) -> list[str]:
    metadata, schema = file.metadata, file.schema_arrow
    if metadata.num_columns > MAX_COLUMNS:
        raise DataError(
            f"The file has {metadata.num_columns:,} columns; at most {MAX_COLUMNS:,} can be read."
        )
    if metadata.num_rows == 0:
        raise DataError("The file has columns but no rows.")
    check_names(schema.names)
    for field in schema:
        _check_type(field)
    stored = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    reckoned = max(stored, metadata.num_rows * sum(_width(field.type) for field in schema))
    if reckoned > MAX_DECODED_BYTES:
        raise DataError(
            f"The file decodes to about {reckoned:,} bytes ({metadata.num_rows:,} rows of"
            f" {len(schema)} columns); at most {MAX_DECODED_BYTES:,} are read. Split it.",
            code="too_large",
        )
    dropped = [name for name in schema.names if name in INDEX_COLUMNS]
    return [f"The index of pandas ({name}) is left out." for name in dropped]


def _check_type(field: pa.Field) -> None:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_nested(kind):
        sentence = "give each of its parts a column of its own"
    elif _is_bytes(kind):
        sentence = "save images as a ZIP with one folder a class"
    else:
        return
    raise DataError(
        f"Column {field.name!r} holds {str(kind)[:60]}, which is neither a number nor a text;"
        f" {sentence}, or leave it out.",
        column=field.name,
    )


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    )


def _width(kind: pa.DataType) -> int:
    try:
        return max(8, int(kind.bit_width) // 8)  # whole numbers with gaps become float64
    except ValueError:  # of texts the width is not known
        return TEXT_BYTES


def _column(name: str, values: pa.ChunkedArray) -> Column:
    """From Arrow to the few dtypes of `Column`; moments stay as they are written."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
        kind = values.type
    if pa.types.is_null(kind):
        return Column(name, "string", np.full(len(values), None, dtype=object))
    if pa.types.is_boolean(kind):
        return Column(name, "boolean", _numbers(values))
    if pa.types.is_integer(kind):
        return _whole_numbers(name, values)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        array = _numbers(values.cast(pa.float64()))
        check_finite(name, array)
        return Column(name, "number", array)
    return Column(name, "string", _texts(name, values.cast(pa.string())))


def _whole_numbers(name: str, values: pa.ChunkedArray) -> Column:
    try:
        return Column(name, "integer", _numbers(values.cast(pa.int64())))
    except pa.ArrowInvalid:  # beyond the 63 bits of an int64
        return Column(name, "number", _numbers(values.cast(pa.float64(), safe=False)))


def _numbers(values: pa.ChunkedArray) -> Array:
    if values.null_count and not pa.types.is_floating(values.type):
        values = values.cast(pa.float64(), safe=False)
    array: Array = values.to_numpy()
    return array


def _texts(name: str, values: pa.ChunkedArray) -> Array:
    found = pc.index(pc.fill_null(pc.match_substring(values, "\0"), False), pa.scalar(True))
    if (place := found.as_py()) >= 0:
        raise DataError(
            f"Row {place + 1}, column {name!r}: the text contains a NUL character.",
            row=place + 1,
            column=name,
        )
    array: Array = values.to_numpy()
    return array
