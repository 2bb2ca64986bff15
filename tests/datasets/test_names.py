"""Names of datasets, and references to their versions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.names import check_name, name_from_filename, not_found_sentence, read_reference
from mlserver.lib.errors import Invalid


@pytest.mark.parametrize("name", ["iris", "my-table_2.v1", "_x", "1"])
def test_a_plain_name_is_taken(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "..", ".x", "a/b", "a b", "ü", "a\n", "x" * 101, "-x"])
def test_a_name_that_could_be_a_path_is_refused(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_name(name)
    assert caught.value.errors[0].field == "name"


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("My table (1).csv", "My-table-1"),
        ("C:\\data\\x.tar.gz", "x"),
        ("../../etc/passwd", "passwd"),
        ("", ""),
    ],
)
def test_a_filename_suggests_a_name(filename: str, name: str) -> None:
    assert name_from_filename(filename) == name


@given(st.text(max_size=300))
def test_a_name_from_any_filename_is_empty_or_valid(filename: str) -> None:
    name = name_from_filename(filename)

    assert name == "" or check_name(name) == name


@pytest.mark.parametrize(
    ("reference", "name", "number"),
    [
        ("iris", "iris", None),
        ("iris@2", "iris", 2),
        ("iris@v2", "iris", 2),
        ("iris/v2", "iris", 2),
        ("iris@0", "iris@0", None),
        ("iris@x", "iris@x", None),
        ("", "", None),
    ],
)
def test_a_reference_names_a_version(reference: str, name: str, number: int | None) -> None:
    assert read_reference(reference) == (name, number)


def test_a_known_name_that_is_not_here_points_to_a_similar_one() -> None:
    assert "digits28 has the same shape" in not_found_sentence("MNIST", ["iris"])


def test_a_misspelt_name_is_guessed() -> None:
    assert "did you mean iris?" in not_found_sentence("Irsi", ["iris", "wine"])
