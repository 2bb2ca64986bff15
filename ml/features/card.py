"""The README of an exported classical model: what it is, how good, and what it cannot do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ml.features.evaluate import Figures
from ml.train.metrics import MOST_CLASSES_SHOWN

KINDS = {
    "table": "rows of a table",
    "text": "texts, by their words, pairs of words and runs of characters",
    "code": "Python code, by its words and its syntax tree: what is called with what",
}
LIMITS = {
    "table": "It knows nothing of columns that were not there, and extrapolates badly.",
    "text": "It sees which words are there, not what the text means.",
    "code": (
        "It recognises patterns like those it was trained on, function by function. It follows no "
        "data from one function to another and proves nothing: a clean answer is no audit. Code "
        "that does not parse is judged by its words alone."
    ),
}


def write_card(
    *,
    algorithm: str,
    preprocess: Mapping[str, Any],
    target: str,
    train_rows: int,
    figures: Sequence[Figures],
) -> str:
    """Markdown; `figures` are those of the held-back rows, all of them first."""
    kind, classes = preprocess["kind"], preprocess["classes"]
    answer = f"one of {len(classes)} classes" if classes else "a number"
    parts = [
        f"A {algorithm.replace('_', ' ')} that says `{target}` ({answer}) of "
        f"{KINDS[kind]}. It learned from {train_rows:,} rows; {_size(preprocess)}.",
        "## How good it is\n\nOn rows that were held back while it learned:\n\n" + _table(figures),
    ]
    if figures and figures[0].confusion is not None and len(classes) <= MOST_CLASSES_SHOWN:
        counts = figures[0].confusion.tolist()
        parts.append("Right classes down, answers across:\n\n" + _confusion(classes, counts))
    parts.append(f"## What it cannot do\n\n{LIMITS[kind]}")
    row = ", ".join(f'"{name}": …' for name in list(preprocess["columns"])[:4])
    parts.append(
        "## How to use it\n\n`model.onnx` holds the weights, `preprocess.json` how a row becomes "
        "numbers, `model.py` reads both. With numpy and onnxruntime, in this folder:\n\n"
        f'```python\nimport model\n\nmodel.predict(".", [{{{row}}}])\n```'
    )
    return "\n\n".join(parts) + "\n"


def _size(preprocess: Mapping[str, Any]) -> str:
    if preprocess["kind"] == "table":
        return f"{len(preprocess['columns']):,} columns"
    return f"{len(preprocess['vocabulary']):,} features"


def _table(figures: Sequence[Figures]) -> str:
    if not figures:
        return "No rows were held back: nothing is known of how good it is."
    names = [name for name, value in figures[0].values.items() if value is not None]
    header = ["rows", "", *(name.replace("_", " ") for name in names)]
    lines = [
        [each.of, f"{each.rows:,}", *(_show(each.values.get(name)) for name in names)]
        for each in figures
    ]
    if figures[0].baseline is not None:
        header.append("most frequent class")
        lines = [[*line, _show(each.baseline)] for line, each in zip(lines, figures, strict=True)]
    return _markdown(header, lines)


def _confusion(classes: Sequence[Any], confusion: Sequence[Sequence[int]]) -> str:
    lines = [
        [str(label), *(f"{count:,}" for count in counts)]
        for label, counts in zip(classes, confusion, strict=True)
    ]
    return _markdown(["", *(str(label) for label in classes)], lines)


def _markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _show(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
