"""The parts of a dataset that its own columns name: `split` decides, `group` keeps together.

A column called `split` counts when every row says train, validation (valid, val, dev) or test;
one called `group` when it has enough different values not to be a feature.
"""

from collections import Counter

import numpy as np

from ml.data.content import Array, Column, Rows

SPLIT, GROUP = "split", "group"
FEWEST_GROUPS = 10
PARTS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


def find_splits(rows: Rows) -> Array | None:
    """train, validation or test for each row."""
    column = _column(rows, SPLIT)
    if column is None or column.type != "string" or column.nulls:
        return None
    found = np.empty(len(rows), dtype=object)
    start = 0
    for batch in column.batches():
        found[start : start + len(batch)] = [
            PARTS.get(text.strip().lower()) for text in batch.values
        ]
        if None in found[start : start + len(batch)]:
            return None
        start += len(batch)
    return found if "train" in found else None


def find_groups(rows: Rows) -> Array | None:
    """The number of each row's group, in the order of their names; one group belongs into one
    part."""
    column = _column(rows, GROUP)
    if column is None or column.type == "number" or column.nulls:
        return None
    places: dict[str, int] = {}
    found = [
        np.array([places.setdefault(str(name), len(places)) for name in batch.values.tolist()])
        for batch in column.batches()
    ]
    if len(places) < FEWEST_GROUPS:
        return None
    names = sorted(places)
    new = np.empty(len(names), np.int64)
    new[[places[name] for name in names]] = np.arange(len(names))
    groups: Array = new[np.concatenate(found)]
    return groups


def part_columns(rows: Rows) -> set[str]:
    """Names of the columns that say where a row belongs, not what it is like."""
    found = {SPLIT: find_splits(rows), GROUP: find_groups(rows)}
    return {name for name, values in found.items() if values is not None}


def count_splits(rows: Rows) -> dict[str, int]:
    """How many rows each part has; empty where the dataset does not say."""
    splits = find_splits(rows)
    if splits is None:
        return {}
    return dict(sorted(Counter(splits.tolist()).items()))


def describe_parts(rows: Rows) -> list[str]:
    """What a person should know of the parts, in sentences."""
    told = []
    splits, groups = count_splits(rows), find_groups(rows)
    if splits:
        listed = ", ".join(f"{count:,} {name}" for name, count in splits.items())
        told.append(f"The column {SPLIT!r} decides which rows are held back: {listed}.")
    elif groups is not None:
        count = len(np.unique(groups))
        told.append(
            f"The column {GROUP!r} keeps rows together when some are held back: {count:,} groups."
        )
    return told


def _column(rows: Rows, name: str) -> Column | None:
    return next((column for column in rows.columns if column.name == name), None)
