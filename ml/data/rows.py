"""Which rows are equal: told by 64-bit hashes of their values."""

import numpy as np
from numpy.typing import NDArray

from ml.data.content import Array, Column

Hashes = NDArray[np.uint64]
_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd and irregular: mixes the columns of a row


def hash_rows(columns: list[Column]) -> Hashes:
    """One number for each row; equal rows have equal ones, within this process."""
    mixed = np.zeros(len(columns[0].values), np.uint64)
    with np.errstate(over="ignore"):
        for column in columns:
            mixed = (mixed ^ _hash_values(column)) * _MIX
            mixed ^= mixed >> np.uint64(29)
    return mixed


def hash_pictures(pixels: Array) -> Hashes:
    """One number for each image (N, H, W, C)."""
    numbers = (hash(picture.tobytes()) for picture in pixels)
    return np.fromiter(numbers, np.int64, len(pixels)).view(np.uint64)


def count_repeated(hashes: Hashes) -> int:
    """Rows that are equal to one before them."""
    return len(hashes) - len(np.unique(hashes))


def _hash_values(column: Column) -> Array:
    if column.values.dtype.kind == "O":
        # Equal texts have equal hashes within one process, which is all that is asked.
        hashes = np.fromiter((hash(value) for value in column.values), np.int64, len(column.values))
        return hashes.view(np.uint64)
    if column.values.dtype.kind != "f":
        return column.values.astype(np.int64).view(np.uint64)
    numbers = column.values + 0.0  # -0.0 becomes 0.0
    numbers[np.isnan(numbers)] = np.nan  # one NaN for all
    return numbers.view(np.uint64)
