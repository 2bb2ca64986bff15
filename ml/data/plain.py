"""Reads plain text: one record a paragraph where blank lines part them, else one a line."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa

from ml.data.content import DataError
from ml.data.stored import BATCH_BYTES, BATCH_ROWS, Stream
from ml.data.text import check_text

TEXT_COLUMN = "text"
LOOK_AT_LINES = 50
MIN_FIELDS = 2
MAX_PARAGRAPH = 100_000_000


def read_text(path: Path) -> Stream:
    if check_text(path, limit_lines=True).is_blank:
        raise DataError("The file is empty.")
    if _has_paragraphs(path):
        return Stream(_batches(_paragraphs(path)), unit="paragraph")
    return Stream(_batches(_lines(path)), unit="line")


def _batches(records: Iterable[str]) -> Iterator[pa.RecordBatch]:
    texts: list[str] = []
    characters = 0
    for record in records:
        texts.append(record)
        characters += len(record)
        if characters >= BATCH_BYTES or len(texts) >= BATCH_ROWS:
            yield pa.record_batch([texts], names=[TEXT_COLUMN])
            texts, characters = [], 0
    if texts:
        yield pa.record_batch([texts], names=[TEXT_COLUMN])


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
    size, number = 0, 1
    with path.open(encoding="utf-8-sig") as stream:
        for line in stream:
            if line.strip():
                lines.append(line.rstrip())
                size += len(line)
                if size > MAX_PARAGRAPH:
                    raise DataError(
                        f"Paragraph {number} has more than {MAX_PARAGRAPH:,} characters;"
                        " part it by blank lines."
                    )
            elif lines:
                yield "\n".join(lines)
                lines, size, number = [], 0, number + 1
    if lines:
        yield "\n".join(lines)
