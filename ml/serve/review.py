"""Python code before a classifier: part by part, with the rules of Bandit that speak for a verdict.

A long file is judged function by function, and the worst decides. Code is only parsed, never run;
it is a stranger's all the same, so this belongs in a locked process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ml.corpora.findings import Finding, scan
from ml.corpora.functions import Function, functions_in, lines_of
from ml.serve.batcher import Batcher
from ml.serve.errors import (
    ComputeFailed,
    ContextLengthExceeded,
    DeadlineMissed,
    NotOffered,
    ServeError,
)
from ml.serve.signature import Array

BOM = "\ufeff"
WINDOW_LINES = 120
OVERLAP = 4
"""A window shares this part of its lines with the one before: nothing is cut in two in both."""
PARTS_AT_ONCE = 256
EMPTY = "There is no code in this: the verdict is what the classifier says of nothing."
GAVE_UP = (
    "The rules gave up on a part of this code, as nested as it is: they may have missed lines."
)
UNPARSABLE = "This does not parse as Python, so it is judged by its words alone."
BY_STYLE = "No rule names a line: the classifier judges by the words and the structure of the code."


@dataclass(frozen=True)
class Part:
    first_line: int
    last_line: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Review:
    """`label` and `scores` are those of the part that has the most of `worst`."""

    label: str
    scores: dict[str, float]
    parts: list[dict[str, Any]]
    """{first_line, last_line, label, score} of each, `score` being that of `worst`."""
    findings: list[dict[str, Any]]
    notes: list[str]


async def review(engine: Batcher, source: str, worst: str, timeout_seconds: float) -> Review:
    """Raises NotOffered where the model is no classifier of texts that knows the class `worst`,
    DeadlineMissed, and what the batcher raises."""
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _review(engine, source.removeprefix(BOM), worst, timeout_seconds)
    except ServeError:
        raise
    except TimeoutError:
        raise DeadlineMissed(f"There was no verdict within {timeout_seconds:g} seconds.") from None
    except Exception as error:  # whatever the rules make of a stranger's code
        raise ComputeFailed(f"This code cannot be reviewed: {error}") from error


async def _review(engine: Batcher, source: str, worst: str, timeout_seconds: float) -> Review:
    name, classes = _require_classifier(engine, worst)
    look = asyncio.get_running_loop().run_in_executor
    functions, findings, notes = await look(None, _look, source)
    most_lines = WINDOW_LINES
    while True:
        parts = await look(None, split, source, functions, most_lines)
        try:
            shares = await _judge(engine, name, parts, timeout_seconds)
            break
        except ContextLengthExceeded:
            if most_lines == 1:
                raise
            most_lines //= 2
    return _conclude(parts, classes, shares, worst, findings, notes)


async def _judge(engine: Batcher, name: str, parts: list[Part], timeout_seconds: float) -> Array:
    """The shares of the classes, (parts, classes). Some at a time: between them others are
    answered, and no file has too many parts."""
    shares = []
    for start in range(0, len(parts), PARTS_AT_ONCE):
        texts = [part.text for part in parts[start : start + PARTS_AT_ONCE]]
        rows = {name: np.array(texts, dtype=object)}
        answer = await engine.submit(rows, ("label", "probabilities"), timeout_seconds)
        shares.append(answer.outputs["probabilities"])
    return np.concatenate(shares)


# --- Parts --------------------------------------------------------------------------------


def split(source: str, functions: list[Function], most_lines: int = WINDOW_LINES) -> list[Part]:
    """The functions, and what stands outside of them; all of it where it has none or only one."""
    lines = lines_of(source)
    if len(functions) < 2:
        return list(_windows(Part(1, len(lines), source), most_lines))
    inside = {n for each in functions for n in range(each.first_line, each.last_line + 1)}
    outside = [(number, line) for number, line in enumerate(lines, 1) if number not in inside]
    parts = [Part(each.first_line, each.last_line, each.text) for each in functions]
    if any(line.strip() for _, line in outside):
        rest = "\n".join(line for _, line in outside) + "\n"
        parts.append(Part(outside[0][0], outside[-1][0], rest))
    return [window for part in parts for window in _windows(part, most_lines)]


def _windows(part: Part, most_lines: int) -> Iterator[Part]:
    lines = lines_of(part.text)
    if len(lines) <= most_lines:
        yield part
        return
    step = max(1, most_lines - most_lines // OVERLAP)
    for start in range(0, len(lines) - most_lines + step, step):
        window = lines[start : start + most_lines]
        first = part.first_line + start
        last = min(first + len(window) - 1, part.last_line)
        yield Part(min(first, last), last, "\n".join(window) + "\n")


def _require_classifier(engine: Batcher, worst: str) -> tuple[str, list[str]]:
    signature = engine.signature
    classes = [str(each) for each in signature.classes or ()]
    is_of_texts = [spec.datatype for spec in signature.inputs] == ["BYTES"]
    if not is_of_texts or worst not in classes:
        known = f"its classes are {', '.join(classes[:10])}" if classes else "it has no classes"
        raise NotOffered(
            f"This needs a classifier of texts that knows the class {worst!r};"
            f" {known if is_of_texts else 'this model takes no single text'}."
        )
    return signature.inputs[0].name, classes


# --- Rules --------------------------------------------------------------------------------


def _look(source: str) -> tuple[list[Function], list[Finding], list[str]]:
    """The functions, what the rules find, and what is to be said of both."""
    if not source.strip():
        return [], [], [EMPTY]
    try:
        functions = list(functions_in(source, ""))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [], [], [UNPARSABLE]
    with _complaints() as told:
        findings = _find(source)
    return functions, findings, [GAVE_UP] if told else []


def _find(source: str) -> list[Finding]:
    """Bandit reads files; this one lies in memory, for a locked process may write no other."""
    lines = lines_of(source)
    # A comment there may name an encoding: Bandit would read another text than Python runs.
    lines[:2] = ["" if line.lstrip().startswith("#") else line for line in lines[:2]]
    file = os.memfd_create("code")
    try:
        with os.fdopen(os.dup(file), "wb") as stream:
            stream.write("\n".join(lines).encode())
        found = scan([Path(f"/proc/self/fd/{file}")])
    finally:
        os.close(file)
    return [finding for findings in found.values() for finding in findings]


class _Listener(logging.Handler):
    """Of what is logged in the thread that made it."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: list[logging.LogRecord] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.told.append(record)


@contextmanager
def _complaints() -> Iterator[list[logging.LogRecord]]:
    """Rules that give up say so in Bandit's log alone, with a traceback for each place: hostile
    code would fill ours."""
    log, listener = logging.getLogger("bandit"), _Listener()
    log.propagate = False
    log.addHandler(listener)
    try:
        yield listener.told
    finally:
        log.removeHandler(listener)


# --- The verdict --------------------------------------------------------------------------


def _conclude(
    parts: list[Part],
    classes: list[str],
    shares: Array,
    worst: str,
    findings: list[Finding],
    notes: list[str],
) -> Review:
    of_worst = shares[:, classes.index(worst)]
    place = int(of_worst.argmax())
    labels = [classes[int(row.argmax())] for row in shares]
    if labels[place] == worst and not findings and not notes:
        notes = [BY_STYLE]
    return Review(
        label=labels[place],
        scores={name: float(share) for name, share in zip(classes, shares[place], strict=True)},
        parts=[
            {
                "first_line": part.first_line,
                "last_line": part.last_line,
                "label": label,
                "score": float(score),
            }
            for part, label, score in zip(parts, labels, of_worst, strict=True)
        ],
        findings=[asdict(finding) for finding in sorted(findings, key=lambda each: each.line)],
        notes=notes,
    )
