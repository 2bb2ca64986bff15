"""JSON and JSON Lines: what is read, and the place that is named when a file breaks."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml.data.content import Column, DataError, Rows
from ml.data.records import read_json, read_jsonl
from ml.data.stored import collect_rows


def read(tmp_path: Path, content: bytes | str | Any) -> Rows:
    path = tmp_path / "upload"
    if not isinstance(content, (bytes, str)):
        content = json.dumps(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return collect_rows(read_json(path))


def read_lines(tmp_path: Path, content: bytes | str) -> Rows:
    path = tmp_path / "upload"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return collect_rows(read_jsonl(path))


def column(rows: Rows, name: str) -> Column:
    return next(column for column in rows.columns if column.name == name)


def refusal(tmp_path: Path, content: bytes | str | Any) -> DataError:
    with pytest.raises(DataError) as caught:
        read(tmp_path, content)
    return caught.value


def test_it_reads_a_list_of_objects(tmp_path: Path) -> None:
    rows = read(tmp_path, [{"a": 1, "b": 0.5, "c": "x", "d": True}, {"a": 2, "b": 1, "c": "y"}])

    assert [(each.name, each.type) for each in rows.columns] == [
        ("a", "integer"),
        ("b", "number"),
        ("c", "string"),
        ("d", "boolean"),
    ]
    assert column(rows, "d").missing.tolist() == [False, True]


def test_it_reads_the_list_under_data(tmp_path: Path) -> None:
    assert len(read(tmp_path, {"data": [{"a": 1}, {"a": 2}], "about": "x"})) == 2


def test_it_reads_json_lines_and_skips_blank_ones(tmp_path: Path) -> None:
    rows = read_lines(tmp_path, '\ufeff{"a": 1}\n\n{"a": null}\n{"b": "x"}')

    assert column(rows, "a").missing.tolist() == [False, True, True]
    assert column(rows, "b").values.tolist() == [None, None, "x"]


def test_a_number_beyond_64_bits_becomes_a_float(tmp_path: Path) -> None:
    assert column(read(tmp_path, [{"a": 2**63}, {"a": 1}]), "a").type == "number"


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_not_json_although_python_writes_it_is_explained(tmp_path: Path, word: str) -> None:
    error = refusal(tmp_path, f'[{{"a": {word}}}]')

    assert "write null" in error.message


def test_a_broken_byte_is_counted_in_bytes(tmp_path: Path) -> None:
    error = refusal(tmp_path, '[{"é": x}]')

    assert error.byte == 8


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Row 2, character 6: the file ends too early") as caught:
        read_lines(tmp_path, '{"a": 1}\n{"a": \n{"a": 3}\n')
    assert caught.value.row == 2


def test_a_truncated_file_is_explained(tmp_path: Path) -> None:
    assert "ends too early" in refusal(tmp_path, '[{"a": 1}, {"a"').message


def test_mixed_types_name_the_row_that_differs(tmp_path: Path) -> None:
    error = refusal(tmp_path, [{"a": 1}, {"a": None}, {"a": "x"}])

    assert (error.row, error.column) == (3, "a")
    assert "is a text, in the rows before it is a number" in error.message


@pytest.mark.parametrize("value", [{"x": 1}, [1, 2]])
def test_a_nested_value_is_refused(tmp_path: Path, value: Any) -> None:
    error = refusal(tmp_path, [{"a": 1}, {"a": value}])

    assert (error.row, error.column) == (2, "a")


def test_a_lone_surrogate_is_refused(tmp_path: Path) -> None:
    assert "surrogate" in refusal(tmp_path, '[{"a": "\\ud800"}]').message


def test_a_nul_character_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, [{"a": "x\0"}]).row == 1


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    assert "deeply" in refusal(tmp_path, "[" * 100_000).message


def test_a_row_that_is_no_object_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, [{"a": 1}, [1, 2]]).row == 2


@pytest.mark.parametrize("content", ["{}", "3", "[]", '{"data": 3}', "[{}]", '{"rows": []}'])
def test_a_document_without_rows_is_refused(tmp_path: Path, content: str) -> None:
    assert refusal(tmp_path, content).message


def test_too_many_columns_are_refused(tmp_path: Path) -> None:
    assert "at most" in refusal(tmp_path, [{f"c{i}": i for i in range(10_001)}]).message


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    for reader in (read, read_lines):
        with pytest.raises(DataError):
            reader(tmp_path, content)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(document=json_values | st.lists(st.dictionaries(st.sampled_from("abc"), json_values)))
def test_arbitrary_json_is_read_or_refused(tmp_path: Path, document: Any) -> None:
    with suppress(DataError):
        rows = read(tmp_path, [document] if isinstance(document, str) else document)
        assert len({len(each.values) for each in rows.columns}) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.none(), min_size=1))
def test_numbers_come_back_as_they_were(tmp_path: Path, values: list[float | None]) -> None:
    rows = read_lines(tmp_path, "\n".join(json.dumps({"a": value}) for value in values))
    expected = np.array([np.nan if value is None else value for value in values])

    if any(value is not None for value in values):
        np.testing.assert_array_equal(column(rows, "a").values, expected)
