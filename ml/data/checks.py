"""What is doubtful about a dataset before one learns from it, in sentences that say what to do."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ml.data.content import Array, Column, Content, Pictures, Rows
from ml.data.parts import find_splits, part_columns
from ml.data.rows import Hashes, count_repeated, hash_pictures, hash_rows, mix
from ml.data.target import classes_of, count_values

LONG_WORDS = 1_500
"""About 2,000 tokens: more than most models read."""
RARE = 20
"""A class with less than a twentieth of the largest is seldom learned."""

Check = dict[str, Any]


def check_content(content: Content, target: str | None) -> list[Check]:
    """`check` (duplicates, contradictions, overlap, balance, long), `count` and `message` of each
    doubt; an empty list where there is none."""
    if isinstance(content, Pictures):
        label, features = content.labels, hash_pictures(content)
        return [*_repeats(features, label), *_balance(label)]
    if content.unit is not None:
        return [*_duplicates(hash_rows(content)), *_long(content.columns)]
    label_of_rows = next((each for each in content.columns if each.name == target), None)
    features = _hash_features(content, target)
    return [
        *_repeats(features, label_of_rows),
        *_overlap(features, find_splits(content)),
        *(_balance(label_of_rows) if label_of_rows is not None else []),
        *_long(content.columns),
    ]


def _hash_features(rows: Rows, target: str | None) -> Hashes:
    beside = {target, *part_columns(rows)}
    names = [each.name for each in rows.columns if each.name not in beside]
    return hash_rows(rows, names or None)


def _repeats(features: Hashes, label: Column | None) -> list[Check]:
    if label is None:
        return _duplicates(features)
    whole = mix([features, label.hashes])
    found = _duplicates(whole)
    if classes_of(label) is None:
        return found
    # A group of equal features that has more than one label.
    labels_of = Counter(features[np.unique(whole, return_index=True)[1]].tolist())
    torn = [value for value, labels in labels_of.items() if labels > 1]
    count = int(np.isin(features, np.array(torn, np.uint64)).sum())
    if count:
        found.append(
            _told(
                "contradictions",
                count,
                f"{count:,} rows are equal in all but their {label.name!r}: no model can be right"
                " on all of them. Correct the labels, or add the column that tells them apart.",
            )
        )
    return found


def _duplicates(hashes: Hashes) -> list[Check]:
    count = count_repeated(hashes)
    if not count:
        return []
    share = f"{count / len(hashes):.1%}"
    return [
        _told(
            "duplicates",
            count,
            f"{count:,} rows ({share}) are equal to an earlier one: what is held back may have been"
            " learned already, and looks better than it is. Remove them.",
        )
    ]


def _overlap(features: Hashes, splits: Array | None) -> list[Check]:
    """Rows that are held back, and learned from as well."""
    if splits is None:
        return []
    learned = features[splits == "train"]
    found = []
    for part in ("validation", "test"):
        held = features[splits == part]
        count = int(np.isin(held, learned).sum())
        if count:
            message = (
                f"{count:,} of the {len(held):,} {part} rows are in train, too: the figures will"
                f" be too good. Remove them from one of the two."
            )
            found.append(_told("overlap", count, message))
    return found


def _balance(label: Column) -> list[Check]:
    if not classes_of(label):
        return []
    counted = count_values(label).most_common()
    (_, most), (rarest, fewest) = counted[0], counted[-1]
    if len(counted) < 2 or fewest * RARE > most:
        return []
    rare = sum(count * RARE <= most for _, count in counted)
    return [
        _told(
            "balance",
            rare,
            f"{rare:,} of {len(counted):,} classes have less than 1/{RARE} of the rows of the"
            f" largest; {str(rarest)[:60]!r} has {fewest:,} against {most:,}. Collect more of them,"
            ' or train with class_weights "balanced".',
        )
    ]


def _long(columns: Sequence[Column]) -> list[Check]:
    found = []
    for column in columns:
        if column.type != "string":
            continue
        count = sum(_is_long(text) for batch in column.batches() for text in batch.values)
        if count:
            message = (
                f"{count:,} texts in {column.name!r} have more than {LONG_WORDS:,} words: models"
                " read a part of them only (max_length). Split them."
            )
            found.append(_told("long", count, message))
    return found


def _is_long(text: str | None) -> bool:
    # Texts below this length cannot have so many words; most need no splitting.
    return text is not None and len(text) > LONG_WORDS and len(text.split()) > LONG_WORDS


def _told(check: str, count: int, message: str) -> Check:
    return {"check": check, "count": count, "message": message}
