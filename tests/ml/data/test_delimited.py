"""CSV and TSV: what is read, and the row that is named when a file breaks."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml.data.content import MAX_LINE_BYTES, Column, DataError, Rows
from ml.data.delimited import read_delimited, write_delimited
from ml.data.stored import collect_rows


def read(tmp_path: Path, content: bytes | str) -> Rows:
    path = tmp_path / "upload"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return collect_rows(read_delimited(path))


def column(rows: Rows, name: str) -> Column:
    return next(column for column in rows.columns if column.name == name)


def refusal(tmp_path: Path, content: bytes | str) -> DataError:
    with pytest.raises(DataError) as caught:
        read(tmp_path, content)
    return caught.value


def test_it_reads_numbers_text_and_truth_values(tmp_path: Path) -> None:
    rows = read(tmp_path, "a,b,c,d\n1,1.5,x,true\n2,2.5,y,false\n")

    assert [(each.name, each.type) for each in rows.columns] == [
        ("a", "integer"),
        ("b", "number"),
        ("c", "string"),
        ("d", "boolean"),
    ]
    assert column(rows, "a").values.tolist() == [1, 2]
    assert column(rows, "c").values.tolist() == ["x", "y"]


def test_an_empty_cell_is_a_missing_value(tmp_path: Path) -> None:
    rows = read(tmp_path, "a,b,c\n1,,true\n,y,\n3,z,false\n")

    assert column(rows, "a").type == "integer"
    assert column(rows, "a").missing.tolist() == [False, True, False]
    assert column(rows, "b").values.tolist() == [None, "y", "z"]
    assert column(rows, "c").type == "boolean"


def test_a_quoted_empty_text_is_a_value(tmp_path: Path) -> None:
    assert column(read(tmp_path, 'a,b\n1,""\n2,x\n'), "b").values.tolist() == ["", "x"]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbfa,b\n1,2\n").columns[0].name == "a"


def test_a_line_break_in_quotes_belongs_to_the_value(tmp_path: Path) -> None:
    rows = read(tmp_path, 'a,b\n1,"two\nlines, and ""quotes"""\n')

    assert column(rows, "b").values.tolist() == ['two\nlines, and "quotes"']


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_it_finds_the_delimiter(tmp_path: Path, delimiter: str) -> None:
    rows = read(tmp_path, f"a{delimiter}b\n1{delimiter}2\n")

    assert [each.name for each in rows.columns] == ["a", "b"]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_ending_is_read(tmp_path: Path, ending: str) -> None:
    assert len(read(tmp_path, ending.join(["a,b", "1,2", "3,4", ""]))) == 2


def test_a_date_stays_as_it_is_written(tmp_path: Path) -> None:
    rows = read(tmp_path, "day,x\n2020-01-01,1\n2020-01-02T00:00,2\n")

    assert column(rows, "day").values.tolist() == ["2020-01-01", "2020-01-02T00:00"]


def test_it_warns_of_words_in_a_column_of_numbers(tmp_path: Path) -> None:
    rows = read(tmp_path, "age,b\n" + "1,2\n" * 9 + "unknown,2\n")

    assert "'unknown' in row 10" in rows.warnings[0]


def test_a_ragged_row_is_named(tmp_path: Path) -> None:
    error = refusal(tmp_path, "a,b\n1,2\n\n3\n4,5\n")

    assert error.row == 2
    assert "Row 2 has 1 value, the header has 2 columns" in error.message


def test_an_unclosed_quote_at_the_end_is_named(tmp_path: Path) -> None:
    error = refusal(tmp_path, 'a,b\n1,2\n3,"4\n5,6\n')

    assert error.row == 2
    assert "never closed" in error.message


def test_an_unclosed_quote_that_a_later_one_closes_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path, 'a,b\n1,2\n3,"4\n5,"6"\n').row == 2


def test_an_unclosed_quote_is_blamed_for_the_ragged_row_behind_it(tmp_path: Path) -> None:
    assert refusal(tmp_path, 'a,b\n1,"2\n3,4\n5"x\n7\n').row == 1


def test_text_that_is_not_utf8_is_located(tmp_path: Path) -> None:
    error = refusal(tmp_path, b"a,b\n1,caf\xe9\n")

    assert error.byte == 9
    assert "Line 2 is not UTF-8: byte 9 is 0xE9" in error.message


def test_utf16_gets_a_sentence_of_its_own(tmp_path: Path) -> None:
    assert "UTF-16" in refusal(tmp_path, "a,b\n1,2\n".encode("utf-16")).message


def test_a_nul_byte_is_located(tmp_path: Path) -> None:
    assert refusal(tmp_path, b"a,b\n1,\x002\n").byte == 6


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff", "  \n "])
def test_an_empty_file_is_refused(tmp_path: Path, content: str) -> None:
    assert "empty" in refusal(tmp_path, content).message


def test_a_header_alone_is_refused(tmp_path: Path) -> None:
    assert "no rows" in refusal(tmp_path, "a,b\n").message


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, "a,b,a\n1,2,3\n")

    assert error.column == "a"
    assert "Two columns" in error.message


def test_a_column_without_a_name_is_refused(tmp_path: Path) -> None:
    assert "index=False" in refusal(tmp_path, ",a\n0,1\n").message


def test_a_missing_header_is_refused(tmp_path: Path) -> None:
    assert "header" in refusal(tmp_path, "5.1,3.5,1\n4.9,3.0,2\n").message


def test_an_infinite_number_is_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, "a,b\n1,2\ninf,3\n")

    assert (error.row, error.column) == (2, "a")


def test_a_very_long_line_is_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, b"a,b\n1,2\n" + b"x" * (MAX_LINE_BYTES + 10) + b",1\n")

    assert "Line 3 is longer" in error.message


def test_a_long_line_just_below_the_limit_is_read(tmp_path: Path) -> None:
    assert len(read(tmp_path, b"a,b\n1," + b"x" * (MAX_LINE_BYTES - 100) + b"\n2,y\n")) == 2


def test_five_million_columns_are_refused_quickly(tmp_path: Path) -> None:
    assert "columns; at most" in refusal(tmp_path, b"a," * 4_900_000 + b"b\n1\n").message


def test_an_enormous_name_is_refused(tmp_path: Path) -> None:
    assert "characters" in refusal(tmp_path, "x" * 1000 + ",b\n1,2\n").message


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=300))
def test_arbitrary_bytes_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    with suppress(DataError):
        rows = read(tmp_path, content)
        assert len({len(each.values) for each in rows.columns}) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.text(alphabet='ab1,";\t\n\r .-e', max_size=60))
def test_text_made_of_csv_is_read_or_refused(tmp_path: Path, content: str) -> None:
    with suppress(DataError):
        read(tmp_path, "a,b\n" + content)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(-(2**62), 2**62),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(
                st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=20
            ),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_what_is_written_is_read_again(tmp_path: Path, rows: list[tuple[int, float, str]]) -> None:
    named = [[whole, number, f"text {text}"] for whole, number, text in rows]
    back = read(tmp_path, write_delimited(["whole", "number", "text"], named))

    assert column(back, "whole").values.tolist() == [row[0] for row in named]
    assert column(back, "number").values.astype(float).tolist() == [row[1] for row in rows]
    assert column(back, "text").values.tolist() == [row[2] for row in named]
