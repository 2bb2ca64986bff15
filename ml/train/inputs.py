"""What goes into a network, row by row: images as they lie on disk, tables as a matrix of their
own in the run directory. Both are mapped, so that memory holds no more than a step takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ml.train import model
from ml.train.prepared import map_array
from ml.train.task import Check

EMPTY = -1.0
"""The place of a category that is empty or unknown."""


class Inputs(Protocol):
    shape: tuple[int, ...]
    """Of one row."""

    def take(self, rows: np.ndarray) -> np.ndarray:
        """These rows as model.to_tensor() takes them."""


class ImageInputs:
    def __init__(self, pixels: np.ndarray) -> None:
        """(N, H, W, C)"""
        self.pixels = pixels
        self.shape: tuple[int, ...] = pixels.shape[1:]

    def take(self, rows: np.ndarray) -> np.ndarray:
        taken: np.ndarray = self.pixels[rows]
        return taken


class TableInputs:
    """A number for each cell: standardised, or the place of a category among all of them.

    The categories become zeros and ones only in the rows that are taken; a hundred of them would
    be a hundred numbers for each cell.
    """

    def __init__(self, path: Path, preprocess: Mapping[str, Any]) -> None:
        encodings = [preprocess["encodings"][name] for name in preprocess["columns"]]
        self.widths = [len(each.get("categories", [0])) for each in encodings]
        self.is_category = [each["kind"] == "category" for each in encodings]
        self.cells = map_array(path, np.float32, len(encodings))
        self.shape: tuple[int, ...] = (sum(self.widths),)

    def take(self, rows: np.ndarray) -> np.ndarray:
        cells: np.ndarray = self.cells[rows]
        if not any(self.is_category):
            return cells
        found = np.zeros((len(rows), *self.shape), np.float32)
        place = 0
        for column, (width, is_category) in enumerate(
            zip(self.widths, self.is_category, strict=True)
        ):
            values = cells[:, column]
            if is_category:
                known = np.flatnonzero(values != EMPTY)
                found[known, place + values[known].astype(np.int64)] = 1.0
            else:
                found[:, place] = values
            place += width
        return found


def write_table(
    path: Path,
    preprocess: Mapping[str, Any],
    batches: Iterator[dict[str, np.ndarray]],
    check: Check,
) -> None:
    """What TableInputs opens, of the columns of a table in parts."""
    with path.open("wb") as file:
        for columns in batches:
            check()
            cells = [
                _encode(name, columns[name], preprocess["encodings"][name])
                for name in preprocess["columns"]
            ]
            np.stack(cells, axis=1).tofile(file)


def _encode(name: str, values: np.ndarray, encoding: Mapping[str, Any]) -> np.ndarray:
    if encoding["kind"] == "number":
        return model.encode_numbers(name, values, encoding).astype(np.float32)
    places = {category: place for place, category in enumerate(encoding["categories"])}
    found = (EMPTY if value is None else places.get(str(value), EMPTY) for value in values.tolist())
    return np.fromiter(found, np.float32, len(values))
