"""Which rows are learned from and which are held back: one rule for every recipe.

A dataset's own `split` column decides; else a share of the rows is drawn by the seed, in whole
groups where the dataset has a `group` column, else evenly over the classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

VALIDATION_STREAM = 1
"""Keeps the shuffle of the split apart from the shuffles of the epochs."""
Parts = tuple[np.ndarray, np.ndarray]


def hold_back(
    targets: np.ndarray,
    share: float,
    seed: int,
    *,
    splits: np.ndarray | None,
    groups: np.ndarray | None,
    warn: Callable[[str], None],
) -> Parts:
    """Row numbers for training and validation; targets (rows,) are class numbers or floats.

    `splits` and `groups` are those of ml.data.content.Table.
    """
    if splits is not None:
        train, validation = by_column(splits)
        warn(
            f"The dataset's column 'split' holds back {len(validation):,} of {len(splits):,} rows; "
            "validation_split is ignored."
        )
        return train, validation
    if groups is not None:
        return by_group(groups, share, seed)
    return split_rows(targets, share, seed, stratify=targets.dtype.kind in "iu")


def by_column(splits: np.ndarray) -> Parts:
    """The rows called train, and those called validation, or test where none is called so."""
    validation = np.flatnonzero(splits == "validation")
    if not len(validation):
        validation = np.flatnonzero(splits == "test")
    return np.flatnonzero(splits == "train"), validation


def by_group(groups: np.ndarray, share: float, seed: int) -> Parts:
    """Whole groups, drawn until at least `share` of the rows is held back; one group stays."""
    names, group_of = np.unique(groups, return_inverse=True)
    order = np.random.default_rng([VALIDATION_STREAM, seed]).permutation(len(names))
    sizes = np.bincount(group_of)[order]
    rows_before = np.cumsum(sizes) - sizes
    count = min(int((rows_before < share * len(groups)).sum()), len(names) - 1)
    is_held_back = np.isin(group_of, order[:count])
    return np.flatnonzero(~is_held_back), np.flatnonzero(is_held_back)


def split_rows(targets: np.ndarray, share: float, seed: int, *, stratify: bool) -> Parts:
    """Row numbers for training and validation; each class keeps a row to learn from."""
    random = np.random.default_rng([VALIDATION_STREAM, seed])
    held_back = []
    for group in _classes(targets) if stratify else [np.arange(len(targets))]:
        count = min(round(len(group) * share), len(group) - 1)
        held_back.append(random.permutation(group)[:count].copy())
    is_held_back = np.zeros(len(targets), bool)
    is_held_back[np.concatenate(held_back)] = True
    return np.flatnonzero(~is_held_back), np.flatnonzero(is_held_back)


def _classes(targets: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of each class."""
    for value in np.unique(targets):
        yield np.flatnonzero(targets == value)
