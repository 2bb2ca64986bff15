"""Describes a dataset: columns with types and ranges, dimensions, target, classes (schema.json)."""

from typing import Any

import numpy as np

from ml.data.content import Column, Content, DataError, Pictures, Rows
from ml.data.parts import count_splits, describe_parts
from ml.data.target import choose_target, classes_of, count_texts

IMAGE_COLUMN = "image"


def describe(content: Content, target: str | None) -> dict[str, Any]:
    """What schema.json says that follows from the values (not the size and hash of the file)."""
    if isinstance(content, Pictures):
        return _describe_pictures(content, target)
    if content.unit is not None:
        return _describe_texts(content, content.unit, target)
    return _describe_rows(content, target)


def _describe_texts(texts: Rows, unit: str, wanted: str | None) -> dict[str, Any]:
    if wanted:
        raise DataError(
            f"There is no column {wanted[:100]!r} to be the target: the file is plain text."
            " Save it as CSV or JSON Lines if its lines have parts.",
            column=wanted[:100],
            code="unknown_target",
        )
    return {
        "kind": "text",
        "sample_count": len(texts),
        "columns": [describe_column(each) for each in texts.columns],
        "dimensions": [len(texts)],
        "target": None,
        "classes": None,
        "warnings": [f"Each {unit} is one record."],
    }


def _describe_rows(rows: Rows, wanted: str | None) -> dict[str, Any]:
    if len(rows.columns) == 1 and rows.columns[0].type == "string" and not wanted:
        return _describe_texts(rows, "line", None)
    if len(rows.columns) < 2:
        raise DataError(
            f"The file has only the column {rows.columns[0].name!r};"
            " at least one feature and a target are needed."
        )
    target, warnings = choose_target(rows, wanted)
    column = rows.column(target)
    if column.is_empty:
        raise DataError(f"The target column {target!r} has no values.", column=target)
    if all(other.is_empty for other in rows.columns if other is not column):
        raise DataError("None of the columns beside the target has a value.")
    return {
        "kind": "table",
        "sample_count": len(rows),
        "columns": [describe_column(each) for each in rows.columns],
        "dimensions": [len(rows), len(rows.columns)],
        "target": target,
        "classes": classes_of(column),
        "splits": count_splits(rows),
        "warnings": [
            *rows.warnings,
            *warnings,
            *describe_parts(rows),
            *_missing_warnings(rows, column),
        ],
    }


def _missing_warnings(rows: Rows, target: Column) -> list[str]:
    warnings = [
        f"Column {column.name!r} has no values and is left out of training."
        for column in rows.columns
        if column.is_empty
    ]
    if lacking := target.nulls:
        noun = "row has" if lacking == 1 else "rows have"
        warnings.append(f"{lacking:,} {noun} no {target.name!r} and will not be learned from.")
    return warnings


def _describe_pictures(pictures: Pictures, wanted: str | None) -> dict[str, Any]:
    labels = pictures.labels
    if wanted not in (None, "", labels.name):
        raise DataError(
            f"There is no {wanted!r} to be the target; the labels are called {labels.name!r}.",
            column=wanted,
            code="unknown_target",
        )
    if labels.missing.any():
        row = int(np.argmax(labels.missing)) + 1
        raise DataError(f"Image {row} has no label.", row=row, column=labels.name)
    low, high = pictures.extent
    image = {
        "name": image_column(pictures),
        "type": "image",
        "shape": list(pictures.shape[1:]),
        "nulls": 0,
        "distinct": None,
        "min": low,
        "max": high,
    }
    return {
        "kind": "image",
        "sample_count": len(pictures),
        "columns": [image, describe_column(labels)],
        "dimensions": list(pictures.shape),
        "target": labels.name,
        "classes": classes_of(labels),
        "warnings": pictures.warnings,
    }


def image_column(pictures: Pictures) -> str:
    return IMAGE_COLUMN if pictures.labels.name != IMAGE_COLUMN else "pixels"


def describe_column(column: Column) -> dict[str, Any]:
    distinct, lowest, highest = _describe_values(column)
    return {
        "name": column.name,
        "type": column.type,
        "shape": None,
        "nulls": column.nulls,
        "distinct": distinct,
        "min": lowest,
        "max": highest,
    }


def _describe_values(column: Column) -> tuple[int, float | int | None, float | int | None]:
    """How many different ones there are, and the least and greatest number."""
    if column.type == "string":
        return count_texts(column), None, None
    known = column.values[~column.missing]
    distinct = len(np.unique(known))
    if column.type == "boolean" or not len(known):
        return distinct, None, None
    number = int if column.type == "integer" else float
    return distinct, number(known.min()), number(known.max())
