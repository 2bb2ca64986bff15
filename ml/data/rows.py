"""Which rows are equal: told by 64-bit hashes of their values."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from ml.data.content import Pictures, Rows

Hashes = NDArray[np.uint64]
_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd and irregular: mixes the columns of a row


def hash_rows(rows: Rows, names: Collection[str] | None = None) -> Hashes:
    """One number for each row (of these columns); equal rows have equal ones, in this process."""
    return np.concatenate([mix([each.hashes for each in b.columns]) for b in rows.batches(names)])


def mix(columns: list[Hashes]) -> Hashes:
    """One number for each row, of one for each of its columns."""
    mixed = np.zeros(len(columns[0]), np.uint64)
    with np.errstate(over="ignore"):
        for hashes in columns:
            mixed = (mixed ^ hashes) * _MIX
            mixed ^= mixed >> np.uint64(29)
    return mixed


def hash_pictures(pictures: Pictures) -> Hashes:
    """One number for each image."""
    numbers = (hash(one.tobytes()) for part in pictures.batches() for one in part)
    return np.fromiter(numbers, np.int64, len(pictures)).view(np.uint64)


def count_repeated(hashes: Hashes) -> int:
    """Rows that are equal to one before them."""
    return len(hashes) - len(np.unique(hashes))
