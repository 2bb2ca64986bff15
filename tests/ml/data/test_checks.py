"""What is doubtful about a dataset: told once it is there, and not where it is not."""

from typing import Any

import numpy as np

from ml.data.arrays import column_of
from ml.data.checks import check_content
from ml.data.content import Column, Pictures, Rows


def text(name: str, values: list[str | None]) -> Column:
    return Column(name, "string", np.array(values, dtype=object))


def table(numbers: list[float], labels: list[str], **more: list[str]) -> Rows:
    others = [text(name, list(values)) for name, values in more.items()]
    return Rows([column_of("x", np.array(numbers)), *others, text("label", list(labels))])


def found(content: Any, target: str | None = "label") -> dict[str, int]:
    return {each["check"]: each["count"] for each in check_content(content, target)}


def test_a_sound_table_has_no_doubts() -> None:
    assert check_content(table([1, 2, 3, 4], ["a", "b", "a", "b"]), "label") == []


def test_equal_rows_are_counted() -> None:
    assert found(table([1, 1, 1, 2], ["a", "a", "a", "b"])) == {"duplicates": 2}


def test_equal_rows_with_different_labels_contradict_each_other() -> None:
    assert found(table([1, 1, 2, 3], ["a", "b", "a", "b"])) == {"contradictions": 2}


def test_equal_rows_with_different_quantities_do_not() -> None:
    rows = Rows([column_of("x", np.array([1, 1])), column_of("label", np.array([0.5, 0.7]))])
    assert found(rows) == {}


def test_rows_that_are_held_back_and_learned_are_overlap() -> None:
    rows = table([1, 2, 1, 3], ["a", "b", "a", "b"], split=["train", "train", "test", "test"])
    [doubt] = [each for each in check_content(rows, "label") if each["check"] == "overlap"]
    assert doubt["count"] == 1
    assert "1 of the 2 test rows" in doubt["message"]


def test_a_rare_class_is_named() -> None:
    rows = table(list(range(101)), ["often"] * 100 + ["seldom"])
    [doubt] = check_content(rows, "label")
    assert (doubt["check"], doubt["count"]) == ("balance", 1)
    assert "'seldom' has 1 against 100" in doubt["message"]


def test_texts_that_are_too_long_are_counted() -> None:
    long = "word " * 1_501
    rows = table([1, 2, 3], ["a", "b", "a"], story=[long, "short", "x" * 9_000])
    assert found(rows) == {"long": 1}
    assert found(Rows([text("text", [long, "a", "a"])], unit="line"), None) == {
        "duplicates": 1,
        "long": 1,
    }


def test_pictures_are_compared_by_their_pixels() -> None:
    pixels = np.zeros((3, 2, 2, 1), np.uint8)
    pixels[2] = 9
    assert found(Pictures(pixels, text("label", ["a", "a", "b"]))) == {"duplicates": 1}
    assert found(Pictures(pixels, text("label", ["a", "b", "b"]))) == {"contradictions": 2}
