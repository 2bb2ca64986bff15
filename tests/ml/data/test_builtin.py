"""The datasets that are there without a network."""

from pathlib import Path

import numpy as np
import pytest

from ml.data import DataError, Images, Table, load
from ml.data.builtin import builtin_dataset, list_builtins


@pytest.mark.parametrize(
    ("name", "count", "classes"),
    [
        ("digits", 1797, 10),
        ("digits28", 1797, 10),
        ("iris", 150, 3),
        ("wine", 178, 3),
        ("breast_cancer", 569, 2),
        ("diabetes", 442, None),
    ],
)
def test_a_builtin_is_a_dataset_version(
    tmp_path: Path, name: str, count: int, classes: int | None
) -> None:
    schema = builtin_dataset(name, tmp_path)

    assert schema["sample_count"] == count
    assert (len(schema["classes"]) if schema["classes"] else None) == classes
    assert schema["warnings"] == []


def test_digits28_shows_the_same_digits_as_digits(tmp_path: Path) -> None:
    for name in ("digits", "digits28"):
        (tmp_path / name).mkdir()
        builtin_dataset(name, tmp_path / name)
    small, large = load(tmp_path / "digits"), load(tmp_path / "digits28")

    assert isinstance(small, Images)
    assert isinstance(large, Images)
    assert large.pixels.shape == (1797, 28, 28, 1)
    assert large.labels.tolist() == small.labels.tolist()
    brightness = np.corrcoef(small.pixels.mean(axis=(1, 2, 3)), large.pixels.mean(axis=(1, 2, 3)))[
        0, 1
    ]
    assert brightness > 0.98


def test_diabetes_is_a_quantity(tmp_path: Path) -> None:
    builtin_dataset("diabetes", tmp_path)
    table = load(tmp_path)

    assert isinstance(table, Table)
    assert table.target is not None
    assert table.target.dtype == np.float64
    assert len(table.features) == 10


def test_an_unknown_builtin_lists_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="digits28"):
        builtin_dataset("mnist", tmp_path)


def test_every_builtin_says_what_it_is() -> None:
    assert all(each["description"].endswith(".") for each in list_builtins())
