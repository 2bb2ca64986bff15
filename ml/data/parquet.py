"""Reads Parquet batch by batch; its metadata is judged before any page is decoded."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ml.data.content import MAX_COLUMNS, DataError, check_finite, check_names
from ml.data.stored import BATCH_BYTES, BATCH_ROWS, Stream

MAGIC = b"PAR1"
MAX_FOOTER_BYTES = 16 * 2**20
MAX_DECODED_BYTES = 2 * 2**30
MAX_RATIO = 20
"""Larger ones may be this many times their size; real tables are three to ten."""
TEXT_BYTES = 32
"""What a text is reckoned at: a pointer and a short string."""
INDEX_COLUMNS = ("__index_level_0__",)


def read_parquet(path: Path) -> Stream:
    _check_footer(path)
    with _damage(), _open(path) as file:
        warnings = _check_metadata(file, path.stat().st_size)
    return Stream(_batches(path), warnings=warnings)


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    with _damage(), _open(path) as file:
        names = [name for name in file.schema_arrow.names if name not in INDEX_COLUMNS]
        width = _reckon_bytes(file) // file.metadata.num_rows
        at_once = min(BATCH_ROWS, max(1, BATCH_BYTES // max(1, width)))
        rows = 0
        for batch in file.iter_batches(at_once, columns=names, use_threads=False):
            batch.validate(full=True)  # texts are UTF-8, offsets lie inside their buffers
            arrays = [_array(name, batch.column(name), rows) for name in names]
            yield pa.record_batch(arrays, names=names)
            rows += len(batch)


def _open(path: Path) -> pq.ParquetFile:
    return pq.ParquetFile(
        path, thrift_string_size_limit=MAX_FOOTER_BYTES, thrift_container_size_limit=1_000_000
    )


@contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except pa.ArrowMemoryError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last: column names
        raise DataError(f"The Parquet file is damaged: {str(error)[:200]}") from error


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


def _check_metadata(file: pq.ParquetFile, size_bytes: int) -> list[str]:
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
    reckoned = _reckon_bytes(file)
    if reckoned > MAX_DECODED_BYTES and reckoned > MAX_RATIO * size_bytes:
        raise DataError(
            f"The file decodes to about {reckoned:,} bytes ({metadata.num_rows:,} rows of"
            f" {len(schema)} columns), more than {MAX_RATIO} times its size; files that decode to"
            f" more than {MAX_DECODED_BYTES:,} bytes may not. Split it.",
            code="too_large",
        )
    dropped = [name for name in schema.names if name in INDEX_COLUMNS]
    return [f"The index of pandas ({name}) is left out." for name in dropped]


def _reckon_bytes(file: pq.ParquetFile) -> int:
    metadata = file.metadata
    stored = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    decoded = metadata.num_rows * sum(_width(field.type) for field in file.schema_arrow)
    return int(max(stored, decoded))


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


def _array(name: str, values: pa.Array, rows_before: int) -> pa.Array:
    """From any type to those of a Stream; moments stay as they are written."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
        kind = values.type
    if pa.types.is_null(kind) or pa.types.is_boolean(kind):
        return values
    if pa.types.is_integer(kind):
        return _whole_numbers(values)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = values.cast(pa.float64())
        check_finite(name, numbers.to_numpy(zero_copy_only=False), rows_before)
        return numbers
    texts = values.cast(pa.string())
    _refuse_nul(name, texts, rows_before)
    return texts


def _whole_numbers(values: pa.Array) -> pa.Array:
    try:
        return values.cast(pa.int64())
    except pa.ArrowInvalid:  # beyond the 63 bits of an int64
        return values.cast(pa.float64(), safe=False)


def _refuse_nul(name: str, texts: pa.Array, rows_before: int) -> None:
    found = pc.index(pc.fill_null(pc.match_substring(texts, "\0"), False), pa.scalar(True))
    if (place := found.as_py()) >= 0:
        row = rows_before + place + 1
        raise DataError(
            f"Row {row}, column {name!r}: the text contains a NUL character.", row=row, column=name
        )
