"""Parquet: columns as they come out of pandas and Arrow, and files that lie about themselves."""

from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml.data import Table, load
from ml.data.content import Column, DataError, Rows
from ml.data.importer import import_dataset
from ml.data.parquet import read_parquet
from ml.data.stored import collect_rows


def write(tmp_path: Path, columns: dict[str, Any], **options: Any) -> Path:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns), path, **options)
    return path


def read(tmp_path: Path, **columns: Any) -> dict[str, Column]:
    return {
        each.name: each for each in collect_rows(read_parquet(write(tmp_path, columns))).columns
    }


def refusal(path: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        collect_rows(read_parquet(path))
    return caught.value


def test_columns_have_their_types(tmp_path: Path) -> None:
    found = read(
        tmp_path, i=[1, 2], f=[0.5, None], b=[True, False], t=["x", None],
        d=pa.array(["x", "y"]).dictionary_encode(), n=pa.nulls(2),
        m=[Decimal("1.5"), Decimal(2)], w=[datetime(2026, 1, 2), None],
    )  # fmt: skip

    assert {name: column.type for name, column in found.items()} == {
        "i": "integer", "f": "number", "b": "boolean", "t": "string",
        "d": "string", "n": "string", "m": "number", "w": "string",
    }  # fmt: skip
    assert found["t"].values.tolist() == ["x", None]
    assert found["d"].values.tolist() == ["x", "y"]
    assert found["m"].values.tolist() == [1.5, 2.0]
    assert found["w"].values[0].startswith("2026-01-02 00:00:00")
    assert found["n"].is_empty


def test_whole_numbers_with_gaps_and_beyond_63_bits(tmp_path: Path) -> None:
    found = read(tmp_path, gap=[1, None], big=pa.array([1, 2**64 - 1], pa.uint64()))

    assert (found["gap"].type, np.isnan(found["gap"].values[1])) == ("integer", True)
    assert (found["big"].type, found["big"].values[1]) == ("number", 2.0**64)


def test_it_is_imported_and_learned_from(tmp_path: Path) -> None:
    write(tmp_path, {"x": [1, 2, 3], "label": ["a", "b", None]}).rename(tmp_path / "upload")
    schema = import_dataset(tmp_path, "upload", "csv")

    assert (schema["format"], schema["kind"], schema["classes"]) == ("parquet", "table", ["a", "b"])
    data = load(tmp_path)
    assert isinstance(data, Table)
    assert data.features["x"].tolist() == [1, 2]


def test_the_index_of_pandas_is_left_out_and_said(tmp_path: Path) -> None:
    rows = collect_rows(
        read_parquet(write(tmp_path, {"a": [1], "b": [2], "__index_level_0__": [7]}))
    )

    assert isinstance(rows, Rows)
    assert [each.name for each in rows.columns] == ["a", "b"]
    assert "index of pandas" in rows.warnings[0]


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"a": [[1], [2]]}, "neither a number nor a text"),
        ({"a": [{"bytes": b"x"}]}, "a column of its own"),
        ({"a": [b"x"]}, "ZIP with one folder a class"),
        ({"a": [float("inf")]}, "Row 1, column 'a': the value is infinite"),
        ({"a": ["x\0"]}, "Row 1, column 'a': the text contains a NUL"),
        ({"a": pa.array([], pa.int64())}, "no rows"),
        ({" ": [1]}, "has no name"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_with_its_column(
    tmp_path: Path, columns: dict[str, Any], sentence: str
) -> None:
    assert sentence in refusal(write(tmp_path, columns)).message


def test_a_text_that_is_not_unicode_is_refused(tmp_path: Path) -> None:
    raw = pa.array([b"ok", b"\xff\xfe"], pa.binary())
    text = pa.StringArray.from_buffers(2, raw.buffers()[1], raw.buffers()[2])

    assert "damaged" in refusal(write(tmp_path, {"a": text})).message


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(table, tmp_path / "a.parquet")

    assert "Two columns are called 'a'" in refusal(tmp_path / "a.parquet").message


def test_many_equal_values_in_a_small_file_are_refused_from_the_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml.data.parquet.MAX_DECODED_BYTES", 2**24)
    path = write(tmp_path, {"a": pa.array(np.zeros(2**21 + 1, np.int8))})

    assert path.stat().st_size < 2**16
    assert refusal(path).code == "too_large"


def test_too_many_columns_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml.data.parquet.MAX_COLUMNS", 2)
    assert "at most 2" in refusal(write(tmp_path, {"a": [1], "b": [1], "c": [1]})).message


@pytest.mark.parametrize("length", [b"\xff\xff\xff\x7f", b"\0\0\0\x10"])
def test_metadata_that_is_larger_than_the_file_is_refused(tmp_path: Path, length: bytes) -> None:
    path = write(tmp_path, {"a": [1]})
    data = path.read_bytes()
    path.write_bytes(data[:-8] + length + b"PAR1")

    assert "metadata" in refusal(path).message


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, {"a": [1]})
    path.write_bytes(path.read_bytes()[:-4])

    assert "ends too early" in refusal(path).message


def test_a_column_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, {"a": [1, 2, 3]})
    path.write_bytes(path.read_bytes().replace(b"\x18\x01a", b"\x18\x01\x80"))
    assert "damaged" in refusal(path).message


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.floats(0, 1), byte=st.integers(0, 255))
def test_damage_is_read_or_refused_but_never_anything_else(
    tmp_path: Path, place: float, byte: int
) -> None:
    path = write(tmp_path, {"a": [1, 2, 3], "t": ["x", "y", "x"]})
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] = byte
    path.write_bytes(data)

    with suppress(DataError, MemoryError):
        collect_rows(read_parquet(path))
