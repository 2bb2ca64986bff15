"""The datasets that come with scikit-learn's wheel: something to learn with no network."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ml.data.content import Array, DataError
from ml.data.delimited import write_delimited
from ml.data.importer import import_dataset


@dataclass(frozen=True)
class Builtin:
    name: str
    description: str
    write: Callable[[Path], str]
    """Writes the data file into a folder and returns its name."""


def list_builtins() -> list[dict[str, str]]:
    return [{"name": each.name, "description": each.description} for each in BUILTINS]


def builtin_dataset(name: str, folder: Path) -> dict[str, Any]:
    """Write the built-in `name` into `folder` as a dataset version; returns its schema."""
    found = next((each for each in BUILTINS if each.name == name), None)
    if found is None:
        known = ", ".join(each.name for each in BUILTINS)
        raise DataError(f"There is no built-in dataset {name!r}; there are {known}.")
    return import_dataset(folder, found.write(folder))


def _write_digits(folder: Path) -> str:
    pixels, labels = _digits()
    np.savez_compressed(folder / "data.npz", image=pixels[..., np.newaxis], label=labels)
    return "data.npz"


def _write_digits28(folder: Path) -> str:
    pixels, labels = _digits()
    bright = pixels * (255 / 16)
    stretch = _stretch(8, 28)
    large = np.rint(stretch @ bright @ stretch.T).astype(np.uint8)
    np.savez_compressed(folder / "data.npz", image=large[..., np.newaxis], label=labels)
    return "data.npz"


def _digits() -> tuple[Array, Array]:
    from sklearn.datasets import load_digits  # takes a second to import

    digits = load_digits()
    return digits.images.astype(np.uint8), digits.target.astype(np.int64)


def _stretch(size: int, new_size: int) -> Array:
    """The matrix (new_size, size) that interpolates linearly between the middles of pixels."""
    places = np.clip((np.arange(new_size) + 0.5) * size / new_size - 0.5, 0, size - 1)
    return np.stack([np.interp(places, np.arange(size), row) for row in np.eye(size)], axis=1)


def _classification(loader: str) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        from sklearn import datasets

        bunch = getattr(datasets, f"load_{loader}")()
        labels = [str(bunch.target_names[index]) for index in bunch.target]
        return _write_table(folder, bunch, "label", labels)

    return write


def _write_diabetes(folder: Path) -> str:
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes(scaled=False)
    return _write_table(folder, bunch, "target", [float(value) for value in bunch.target])


def _write_table(folder: Path, bunch: Any, target: str, labels: list[Any]) -> str:
    names = [_plain(name) for name in bunch.feature_names]
    rows = [[*row, label] for row, label in zip(bunch.data.tolist(), labels, strict=True)]
    (folder / "data.csv").write_text(write_delimited([*names, target], rows))
    return "data.csv"


def _plain(name: str) -> str:
    """`sepal length (cm)` → `sepal_length_cm`: names that can be typed."""
    return "_".join(name.replace("(", "").replace(")", "").replace("/", " ").split())


BUILTINS = (
    Builtin("digits", "1,797 handwritten digits, 8×8 grey pixels, 10 classes.", _write_digits),
    Builtin(
        "digits28",
        "The digits scaled to 28×28 pixels: the shape of MNIST, in seconds.",
        _write_digits28,
    ),
    Builtin(
        "iris",
        "150 irises of 3 species, by the length and width of their leaves.",
        _classification("iris"),
    ),
    Builtin("wine", "178 wines of 3 growers, by 13 measurements.", _classification("wine")),
    Builtin(
        "breast_cancer",
        "569 tumours, malignant or benign, by 30 measurements of their cells.",
        _classification("breast_cancer"),
    ),
    Builtin(
        "diabetes",
        "442 patients; the target is how far the disease went in a year (a number).",
        _write_diabetes,
    ),
)
