"""Which column is learned: the rule for the target, and the classes it has."""

import difflib
from collections import Counter
from typing import Any

import numpy as np

from ml.data.content import Column, DataError, Rows
from ml.data.parts import part_columns

TARGET_NAMES = ("label", "target", "class", "y")
MAX_CLASSES = 1_000
MAX_WHOLE_CLASSES = 100
FEW = 20


def choose_target(rows: Rows, wanted: str | None) -> tuple[str, list[str]]:
    """The column to learn and what to warn of: the one named; else a usual name; else the last."""
    names = [column.name for column in rows.columns]
    if wanted:
        return _named(names, wanted), []
    if rows.target is not None:
        return rows.target, []
    lowered = {name.lower(): name for name in reversed(names)}
    for usual in TARGET_NAMES:
        if usual in lowered:
            return lowered[usual], []
    placed = part_columns(rows)
    last = [name for name in names if name not in placed][-1]
    warning = (
        f"No column is called {', '.join(TARGET_NAMES[:-1])} or {TARGET_NAMES[-1]},"
        f" so the last one, {last!r}, is taken as the target; name another if that is wrong."
    )
    return last, [warning]


def _named(names: list[str], wanted: str) -> str:
    if wanted in names:
        return wanted
    close = difflib.get_close_matches(wanted, names, n=1)
    listed = ", ".join(repr(name) for name in names[:10]) + (", …" if len(names) > 10 else "")
    mend = f"Did you mean {close[0]!r}?" if close else f"The columns are {listed}."
    raise DataError(
        f"There is no column {wanted[:100]!r} to be the target. {mend}",
        column=wanted[:100],
        code="unknown_target",
    )


def classes_of(column: Column) -> list[str] | list[int] | None:
    """The classes of a categorical target in order; None where it is a quantity.

    Text and truth values are classes. Whole numbers are, if there are few of them:
    up to 20, or up to 100 when each is there ten times on average.
    """
    if column.type == "string":
        return _few_texts(column)
    if column.type == "number":
        return None
    known = column.values[~column.missing]
    if column.type == "boolean":
        return [("false", "true")[int(value)] for value in np.unique(known)]
    if not len(known):
        return None
    whole = np.unique(known)
    is_few = len(whole) <= FEW or len(whole) <= min(MAX_WHOLE_CLASSES, len(known) // 10)
    return [int(value) for value in whole] if is_few else None


def _few_texts(column: Column) -> list[str] | None:
    texts: set[str] = set()
    for batch in column.batches():
        texts.update(batch.values[~batch.missing].tolist())
        if len(texts) > MAX_CLASSES:
            return None
    return sorted(texts)


def count_values(column: Column) -> Counter[Any]:
    """How often each value is there: for a column with classes."""
    counted: Counter[Any] = Counter()
    for batch in column.batches():
        counted.update(batch.values[~batch.missing].tolist())
    return counted


def count_texts(column: Column) -> int:
    """Different ones, told apart by 64 bits; a missing one is none."""
    return len(np.unique(column.hashes)) - bool(column.nulls)
