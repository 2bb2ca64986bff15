"""What the values of a dataset look like: ranges, histograms, balance of labels, duplicates.

Runs in a child in the background, because it looks at every value: a column of numbers at once
(eight bytes a row), texts batch by batch.
"""

from collections import Counter
from typing import Any

import numpy as np

from ml.data.checks import check_content
from ml.data.content import Array, Column, Content, Pictures, Rows
from ml.data.rows import count_repeated, hash_pictures, hash_rows
from ml.data.schema import image_column
from ml.data.target import classes_of, count_values

MAX_COLUMNS = 500
BINS = 20
TOP = 20
SHOWN_CHARACTERS = 80

Facts = dict[str, Any]


def describe_content(content: Content, target: str | None) -> Facts:
    """`rows`, `duplicates`, `columns` with their histograms, `labels` of a categorical target,
    `checks`: what is doubtful."""
    if isinstance(content, Pictures):
        facts = _describe_pictures(content)
    else:
        facts = _describe_rows(content, target)
    return {**facts, "checks": check_content(content, target)}


def _describe_rows(content: Rows, target: str | None) -> Facts:
    label = next((each for each in content.columns if each.name == target), None)
    return {
        "rows": len(content),
        "duplicates": count_repeated(hash_rows(content)),
        "columns": [describe_column(each) for each in content.columns[:MAX_COLUMNS]],
        "columns_total": len(content.columns),
        "labels": None if label is None or content.unit is not None else label_balance(label),
    }


def _describe_pictures(pictures: Pictures) -> Facts:
    brightness = np.concatenate(
        [part.reshape(len(part), -1).mean(axis=1, dtype=np.float64) for part in pictures.batches()]
    )
    name = image_column(pictures)
    image = _describe_numbers(brightness) | {"name": name, "type": "image", "nulls": 0}
    return {
        "rows": len(pictures),
        "duplicates": count_repeated(hash_pictures(pictures)),
        "columns": [image, describe_column(pictures.labels)],
        "columns_total": 2,
        "labels": label_balance(pictures.labels),
    }


def describe_column(column: Column) -> Facts:
    if column.type == "string":
        facts = _describe_texts(column)
    else:
        known = column.values[~column.missing]
        if column.type == "boolean":
            facts = _top_values(Counter("true" if value else "false" for value in known))
        else:
            facts = _describe_numbers(known.astype(np.float64))
    return {"name": column.name, "type": column.type, "nulls": column.nulls, **facts}


def _describe_numbers(known: Array) -> Facts:
    if not len(known):
        return {"distinct": 0}
    with np.errstate(over="ignore", invalid="ignore"):  # told as null by _finite
        mean, std, middle = known.mean(), known.std(), np.median(known)
    return {
        "distinct": len(np.unique(known)),
        "min": float(known.min()),
        "max": float(known.max()),
        "mean": _finite(mean),
        "std": _finite(std),
        "median": _finite(middle),
        "histogram": histogram(known),
    }


def histogram(known: Array) -> Facts:
    """`counts` between `edges`: 20 bins of equal width; one a value where whole numbers are few."""
    low, high = float(known.min()), float(known.max())
    # Halves, for the difference of the largest and the smallest float64 overflows.
    half = high / 2 - low / 2
    if half == 0:
        return {"counts": [len(known)], "edges": [low, high]}
    if 2 * half < BINS and bool((known == np.rint(known)).all()):
        bins = round(2 * half) + 1
        places = (known - low).astype(np.int64)
        edges = [low - 0.5 + number for number in range(bins + 1)]
    else:
        bins = BINS
        places = np.minimum((known / 2 - low / 2) / half * bins, bins - 1).astype(np.int64)
        edges = [low * (1 - n / bins) + high * (n / bins) for n in range(bins + 1)]
    return {"counts": np.bincount(places, minlength=bins).tolist(), "edges": edges}


def _describe_texts(column: Column) -> Facts:
    characters, words = [], []
    for batch in column.batches():
        known = batch.values[~batch.missing]
        characters.append(np.fromiter((len(text) for text in known), np.int32, len(known)))
        words.append(np.fromiter((len(text.split()) for text in known), np.int32, len(known)))
    return {
        **_top_texts(column),
        "characters": _lengths(np.concatenate(characters)),
        "words": _lengths(np.concatenate(words)),
    }


def _top_texts(column: Column) -> Facts:
    """Counted by their hashes: all texts of a column may be more than memory holds."""
    rows = np.flatnonzero(~column.missing)
    hashes, first, counts = np.unique(column.hashes[rows], return_index=True, return_counts=True)
    order = np.lexsort((first, -counts))[:TOP]
    top = [
        {"value": _short(column.pick(int(rows[first[place]]))), "count": int(counts[place])}
        for place in order
    ]
    others = int(counts.sum() - counts[order].sum())
    return {"distinct": len(hashes), "top": top, "others": others}


def _lengths(lengths: Array) -> Facts | None:
    if not len(lengths):
        return None
    return {
        "min": int(lengths.min()),
        "max": int(lengths.max()),
        "mean": float(lengths.mean()),
        "histogram": histogram(lengths.astype(np.float64)),
    }


def _top_values(counted: Counter[str]) -> Facts:
    top = counted.most_common(TOP)
    return {
        "distinct": len(counted),
        "top": [{"value": _short(value), "count": count} for value, count in top],
        "others": counted.total() - sum(count for _, count in top),
    }


def label_balance(column: Column) -> list[Facts] | None:
    """How often each class is there, the most frequent first; None for a quantity."""
    if not classes_of(column):
        return None
    counted = count_values(column)
    return [
        {"label": _label(column, label), "count": count, "share": count / counted.total()}
        for label, count in counted.most_common()
    ]


def _label(column: Column, label: Any) -> str:
    if column.type == "boolean":
        return "true" if label else "false"
    return _short(str(int(label)) if isinstance(label, float) else str(label))


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def _finite(value: Any) -> float | None:
    """The mean of very large numbers may overflow; JSON knows no infinity."""
    return float(value) if np.isfinite(value) else None
