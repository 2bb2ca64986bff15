"""Statistics of columns: ranges, histograms, texts, labels, duplicates."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.data.content import Column, Pictures, Rows
from ml.data.loader import collect_content
from ml.data.statistics import describe_column, describe_content, histogram
from tests.ml.data.archives import pets, picture, zip_of


def texts(*values: str | None) -> Any:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def numbers(*values: float) -> Column:
    return Column("x", "number", np.array(values))


def test_a_column_of_numbers(tmp_path: Path) -> None:
    facts = describe_column(numbers(0.0, 10.0, 2.5, math.nan))

    assert (facts["nulls"], facts["distinct"]) == (1, 3)
    assert (facts["min"], facts["max"], facts["median"]) == (0.0, 10.0, 2.5)
    assert facts["mean"] == pytest.approx(12.5 / 3)
    assert sum(facts["histogram"]["counts"]) == 3
    assert (len(facts["histogram"]["counts"]), len(facts["histogram"]["edges"])) == (20, 21)


def test_few_whole_numbers_have_a_bar_each() -> None:
    facts = describe_column(Column("x", "integer", np.array([3, 3, 5])))

    assert facts["histogram"] == {"counts": [2, 0, 1], "edges": [2.5, 3.5, 4.5, 5.5]}


def test_a_column_of_texts_has_its_most_frequent_and_its_lengths() -> None:
    values = ["often"] * 3 + [f"rare {n:03}" for n in range(30)]
    facts = describe_column(Column("t", "string", texts(*values, None)))

    assert (facts["nulls"], facts["distinct"]) == (1, 31)
    assert facts["top"][0] == {"value": "often", "count": 3}
    assert (len(facts["top"]), facts["others"]) == (20, 11)
    assert (facts["characters"]["min"], facts["characters"]["max"]) == (5, 8)
    assert (facts["words"]["min"], facts["words"]["max"]) == (1, 2)


def test_truth_values_and_empty_columns() -> None:
    facts = describe_column(Column("b", "boolean", np.array([True, False, True])))
    assert facts["top"] == [{"value": "true", "count": 2}, {"value": "false", "count": 1}]

    assert describe_column(numbers(math.nan))["distinct"] == 0
    assert describe_column(Column("t", "string", texts(None)))["characters"] is None


def test_equal_rows_and_labels_are_counted() -> None:
    rows = Rows([
        numbers(1.0, 1.0, 1.0, math.nan, math.nan, -0.0, 0.0),
        Column("label", "string", texts("a", "a", "b", "b", "b", "c", "c")),
    ])  # fmt: skip
    facts = describe_content(rows, "label")

    assert (facts["rows"], facts["duplicates"], facts["columns_total"]) == (7, 3, 2)
    assert facts["labels"][0] == {"label": "b", "count": 3, "share": 3 / 7}


def test_large_whole_numbers_that_differ_are_no_duplicates() -> None:
    rows = Rows([Column("id", "integer", np.array([2**60, 2**60 + 1])), numbers(1.0, 1.0)])
    assert describe_content(rows, "x")["duplicates"] == 0


def test_a_quantity_has_no_labels() -> None:
    rows = Rows([numbers(1.0, 2.0), Column("y", "number", np.array([0.5, 1.5]))])
    assert describe_content(rows, "y")["labels"] is None


def test_images_have_brightness_labels_and_duplicates(tmp_path: Path) -> None:
    same = {f"{kind}/{n}.png": picture() for kind in "ab" for n in (1, 2)}
    pictures = collect_content(zip_of(tmp_path / "same.zip", same), "zip")
    assert isinstance(pictures, Pictures)
    assert describe_content(pictures, "label")["duplicates"] == 3

    facts = describe_content(collect_content(pets(tmp_path / "pets.zip"), "zip"), "label")
    assert facts["columns"][0]["name"] == "image"
    assert [each["label"] for each in facts["labels"]] == ["cats", "dogs"]


def test_plain_text_has_lengths_and_no_labels() -> None:
    facts = describe_content(Rows([Column("text", "string", texts("a b", "c"))], unit="line"), None)

    assert facts["labels"] is None
    assert facts["columns"][0]["words"]["mean"] == 1.5


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_a_histogram_counts_every_number_once_between_rising_edges(values: list[float]) -> None:
    found = histogram(np.array(values))

    assert sum(found["counts"]) == len(values)
    assert len(found["edges"]) == len(found["counts"]) + 1
    assert found["edges"] == sorted(found["edges"])
    json.dumps(describe_column(numbers(*values)), allow_nan=False)
