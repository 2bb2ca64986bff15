"""What a sample is taken to be, by the names of the columns and by what stands in them."""

import numpy as np
import pytest

from ml.features.inputs import choose_input

CODE = np.array(["def f():\n    return 1\n", "import os\n", None], dtype=object)
PROSE = np.array(["A good film.", "import duties are high", "yes"], dtype=object)
NUMBERS = np.array([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("wanted", "column", "features", "expected"),
    [
        ("auto", None, {"x": NUMBERS}, ("table", None)),
        ("auto", None, {"x": NUMBERS, "colour": PROSE}, ("table", None)),
        ("auto", None, {"Text": PROSE, "x": NUMBERS}, ("text", "Text")),
        ("auto", None, {"text": CODE}, ("code", "text")),
        ("auto", "colour", {"colour": PROSE}, ("text", "colour")),
        ("text", None, {"text": CODE}, ("text", "text")),
        ("table", None, {"text": CODE}, ("table", None)),
    ],
)
def test_the_input_is_found(
    wanted: str,
    column: str | None,
    features: dict[str, np.ndarray],
    expected: tuple[str, str | None],
) -> None:
    assert choose_input(wanted, column, features) == expected


@pytest.mark.parametrize(
    ("wanted", "column", "sentence"),
    [
        ("code", None, "needs a text_column"),
        ("auto", "words", "none of x"),
        ("text", "x", "holds numbers"),
    ],
)
def test_what_lacks_is_named(wanted: str, column: str | None, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        choose_input(wanted, column, {"x": NUMBERS})
