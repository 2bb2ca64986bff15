"""What a sample is: a row of a table, a text, or Python code."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Mapping, Sequence

import numpy as np

TEXT_COLUMNS = ("text", "code", "content", "sentence", "review", "message", "body")
LOOKED_AT = 100
"""Texts tried to be parsed, to see whether they are code."""


def choose_input(
    wanted: str, column: str | None, features: Mapping[str, np.ndarray]
) -> tuple[str, str | None]:
    """The kind (table, text or code), and the column with texts; ValueError names what lacks.

    Without a word from the person, a column of a usual name is read as text or code.
    """
    if wanted == "table":
        return "table", None
    name = _named(column, features) if column is not None else _usual(features)
    if name is None:
        if wanted == "auto":
            return "table", None
        usual = ", ".join(TEXT_COLUMNS)
        raise ValueError(f"input {wanted} needs a text_column: none is called {usual}.")
    if wanted != "auto":
        return wanted, name
    return ("code" if looks_like_code(features[name][:LOOKED_AT]) else "text"), name


def _named(name: str, features: Mapping[str, np.ndarray]) -> str:
    if name not in features:
        raise ValueError(f"text_column {name!r} is none of {', '.join(list(features)[:20])}.")
    if features[name].dtype.kind != "O":
        raise ValueError(f"text_column {name!r} holds numbers, no texts.")
    return name


def _usual(features: Mapping[str, np.ndarray]) -> str | None:
    lowered = {name.lower(): name for name in features if features[name].dtype.kind == "O"}
    return next((lowered[usual] for usual in TEXT_COLUMNS if usual in lowered), None)


def looks_like_code(texts: Sequence[str | None] | np.ndarray) -> bool:
    """Whether most of them are Python with at least one statement besides an expression."""
    return sum(_is_code(text or "") for text in texts) > len(texts) / 2


def _is_code(text: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(not isinstance(node, ast.Expr) for node in body)
