"""Reads plain text: one record a paragraph where blank lines part them, else one a line."""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from ml.data.content import Column, DataError, Texts
from ml.data.text import check_text

TEXT_COLUMN = "text"
LOOK_AT_LINES = 50
MIN_FIELDS = 2


def read_text(path: Path) -> Texts:
    if check_text(path, limit_lines=True).is_blank:
        raise DataError("The file is empty.")
    has_paragraphs = _has_paragraphs(path)
    records = list(_paragraphs(path) if has_paragraphs else _lines(path))
    values = np.empty(len(records), dtype=object)
    values[:] = records
    return Texts(
        [Column(TEXT_COLUMN, "string", values)], unit="paragraph" if has_paragraphs else "line"
    )


def looks_like_table(path: Path, delimiter: str) -> bool:
    """The first lines all split into the same number of fields, at least two; prose does not.

    The text must have been checked.
    """
    lines = list(islice(_lines(path), LOOK_AT_LINES))
    fields = {re.sub(r'"[^"]*"', "", line).count(delimiter) + 1 for line in lines}
    return len(lines) > 1 and len(fields) == 1 and min(fields) >= MIN_FIELDS


def _has_paragraphs(path: Path) -> bool:
    """A blank line with text before and after it."""
    seen_text = seen_blank = False
    with path.open(encoding="utf-8-sig") as stream:
        for line in stream:
            if not line.strip():
                seen_blank = seen_text
            elif seen_blank:
                return True
            else:
                seen_text = True
    return False


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig") as stream:
        for line in stream:
            if text := line.strip():
                yield text


def _paragraphs(path: Path) -> Iterator[str]:
    lines: list[str] = []
    with path.open(encoding="utf-8-sig") as stream:
        for line in stream:
            if line.strip():
                lines.append(line.rstrip())
            elif lines:
                yield "\n".join(lines)
                lines = []
    if lines:
        yield "\n".join(lines)
