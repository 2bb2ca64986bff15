"""Python code before a classifier: part by part, with the rules of Bandit that speak for a verdict.

A long file is judged function by function, and the worst decides. Code is only parsed, never run;
it is a stranger's all the same, so this belongs in a locked process.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ml.corpora.findings import Finding, scan
from ml.corpora.functions import functions_in
from ml.serve.batcher import Batcher
from ml.serve.errors import ComputeFailed, ContextLengthExceeded, NotOffered, ServeError

WINDOW_LINES = 120
OVERLAP = 4
"""A window shares this part of its lines with the one before: nothing is cut in two in both."""
EMPTY = "There is no code in this: the verdict is what the classifier says of nothing."
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
    """Raises NotOffered where the model is no classifier of texts that knows the class `worst`, and
    what the batcher raises."""
    try:
        return await _review(engine, source, worst, timeout_seconds)
    except ServeError:
        raise
    except Exception as error:  # whatever the rules make of a stranger's code
        raise ComputeFailed(f"This code cannot be reviewed: {error}") from error


async def _review(engine: Batcher, source: str, worst: str, timeout_seconds: float) -> Review:
    name, classes = _require_classifier(engine, worst)
    look = asyncio.get_running_loop().run_in_executor
    findings, is_parsable = await look(None, _find, source)
    most_lines = WINDOW_LINES
    while True:
        parts = await look(None, lambda lines: list(split(source, lines)), most_lines)
        texts = np.array([part.text for part in parts], dtype=object)
        try:
            answer = await engine.submit({name: texts}, ("label", "probabilities"), timeout_seconds)
            break
        except ContextLengthExceeded:
            if most_lines == 1:
                raise
            most_lines //= 2
    shares = answer.outputs["probabilities"]
    return _conclude(parts, classes, shares, worst, findings, _notes(source, is_parsable))


def split(source: str, most_lines: int = WINDOW_LINES) -> Iterator[Part]:
    """The functions, and what stands outside of them; all of it where it has none or only one."""
    lines = source.splitlines() or [""]
    try:
        functions = list(functions_in(source, ""))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        functions = []
    if len(functions) < 2:
        yield from _windows(Part(1, len(lines), source), most_lines)
        return
    inside = {n for each in functions for n in range(each.first_line, each.last_line + 1)}
    outside = [(number, line) for number, line in enumerate(lines, 1) if number not in inside]
    for each in functions:
        yield from _windows(Part(each.first_line, each.last_line, each.text), most_lines)
    if any(line.strip() for _, line in outside):
        rest = "\n".join(line for _, line in outside) + "\n"
        yield from _windows(Part(outside[0][0], outside[-1][0], rest), most_lines)


def _windows(part: Part, most_lines: int) -> Iterator[Part]:
    lines = part.text.splitlines()
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


def _find(source: str) -> tuple[list[Finding], bool]:
    """What the rules find, and whether the code parses. Bandit reads files; this one lies in
    memory, for a locked process may write no other."""
    try:
        list(functions_in(source, ""))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [], False
    file = os.memfd_create("code")
    try:
        with os.fdopen(os.dup(file), "wb") as stream:
            stream.write(source.encode())
        found = scan([Path(f"/proc/self/fd/{file}")])
    finally:
        os.close(file)
    return [finding for findings in found.values() for finding in findings], True


def _notes(source: str, is_parsable: bool) -> list[str]:
    if not source.strip():
        return [EMPTY]
    return [] if is_parsable else [UNPARSABLE]


def _conclude(
    parts: list[Part],
    classes: list[str],
    shares: np.ndarray,
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
