"""Opens a dataset for a language model: its columns of text, row by row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ml.config import CausalConfig, ClassifyConfig, DatasetReference, Text2TextConfig
from ml.data import DataError
from ml.data.content import Column, Pictures, Rows
from ml.data.loader import read_version, read_version_schema, target_values
from ml.data.parts import find_groups, find_splits
from ml.data.target import choose_target
from ml.text_fields import NoSuchColumn, TextFields, find_fields
from ml.train.errors import TrainingFailed

LanguageConfig = Text2TextConfig | CausalConfig | ClassifyConfig
Message = dict[str, str]
ROWS_AT_ONCE, CHARACTERS_AT_ONCE = 1000, 500_000
"""What a tokenizer tells of a text takes a hundred times its room."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some rows in memory; a list is empty where this way of learning has none of it."""

    prompts: list[str]
    answers: list[str]
    texts: list[str]
    chats: list[list[Message]]

    def written(self) -> Iterator[str]:
        """Everything, row by row."""
        for row in range(max(len(self.prompts), len(self.texts), len(self.chats))):
            for texts in (self.texts, self.prompts, self.answers):
                if texts:
                    yield texts[row]
            if self.chats:
                yield from (message["content"] for message in self.chats[row])


@dataclass(frozen=True, kw_only=True)
class Records:
    """Rows that have all that is needed. They are counted from 0, and stay on disk."""

    fields: TextFields
    rows: Rows
    keep: np.ndarray
    """Their numbers in the dataset."""
    sha256: str
    """Of the dataset's file."""
    target: np.ndarray | None
    target_name: str | None
    splits: np.ndarray | None
    groups: np.ndarray | None

    def __len__(self) -> int:
        return len(self.keep)

    def read(self, rows: np.ndarray) -> Iterator[Part]:
        """These rows, whose numbers rise, a few at a time."""
        fields = self.fields
        named = (fields.text, fields.messages, fields.prompt, fields.context, fields.answer)
        names = {name for name in named if name is not None}
        first = 0
        for taken in self.rows.take(self.keep[rows], names):
            at_once = _rows_at_once(taken)
            for start in range(0, len(taken), at_once):
                some = taken.slice(start, min(start + at_once, len(taken)))
                numbers = self.keep[rows[first : first + len(some)]] + 1
                yield _read_part(some, fields, numbers)
                first += len(some)

    def texts_of(self, rows: np.ndarray) -> Iterator[str]:
        """Everything that is written in these rows: what a tokenizer is learned from."""
        for part in self.read(rows):
            yield from part.written()


def _rows_at_once(rows: Rows) -> int:
    texts = (each.values for each in rows.columns if each.type == "string")
    characters = sum(len(text) for values in texts for text in values if text is not None)
    return max(1, min(ROWS_AT_ONCE, CHARACTERS_AT_ONCE * len(rows) // max(1, characters)))


def open_records(config: LanguageConfig, folder: Path, warn: Callable[[str], None]) -> Records:
    """Relative paths start at `folder`. Raises TrainingFailed with data_error or spec_error."""
    try:
        rows, sha256 = _open_rows(config, folder)
        fields = find_fields(config, [column.name for column in rows.columns])
        target = _find_target(config, rows)
        if target is not None and fields.text == target.name:
            sentence = f"text_column and target are both {target.name!r}; name another"
            raise NoSuchColumn("text_column", sentence)
    except DataError as error:
        raise TrainingFailed("data_error", str(error)) from error
    except NoSuchColumn as error:
        raise TrainingFailed("spec_error", f"{error}.") from error
    return _records(rows, sha256, fields, target, warn)


def _open_rows(config: LanguageConfig, folder: Path) -> tuple[Rows, str]:
    reference = config.dataset
    if not isinstance(reference, DatasetReference):
        raise TrainingFailed(
            "spec_error", f"dataset must say where it lies ({{'path': …}}), got {reference!r}"
        )
    path = folder / reference.path
    schema = read_version_schema(path)
    content = read_version(path, schema)
    if isinstance(content, Pictures):
        raise DataError(f"The dataset holds images; recipe {config.recipe} learns from text.")
    return content, schema["sha256"]


def _find_target(config: LanguageConfig, rows: Rows) -> Column | None:
    if not isinstance(config, ClassifyConfig):
        return None
    reference = config.dataset
    usual = reference.target if isinstance(reference, DatasetReference) else None
    name, _ = choose_target(rows, config.target or usual)
    return rows.column(name)


def _records(
    rows: Rows, sha256: str, fields: TextFields, target: Column | None, warn: Callable[[str], None]
) -> Records:
    named = (fields.text, fields.messages, fields.prompt, fields.answer)
    needed = [rows.column(name) for name in named if name is not None]
    is_whole = np.ones(len(rows), bool)
    for column in [*needed, *([target] if target else [])]:
        if column.nulls:
            is_whole &= ~column.missing
    keep = np.flatnonzero(is_whole)
    if lost := len(rows) - len(keep):
        warn(f"{lost:,} of {len(rows):,} rows lack a text or a target and are left out.")
    if len(keep) < 2:
        raise TrainingFailed("data_error", f"{len(keep)} rows are too few to learn from.")
    splits, groups = find_splits(rows), find_groups(rows)
    return Records(
        fields=fields,
        rows=rows,
        keep=keep,
        sha256=sha256,
        target=None if target is None else target_values(target, keep),
        target_name=None if target is None else target.name,
        splits=None if splits is None else splits[keep],
        groups=None if groups is None else groups[keep],
    )


def _read_part(rows: Rows, fields: TextFields, numbers: np.ndarray) -> Part:
    """`numbers` are those that people count the rows by."""
    prompts, contexts = _texts(rows, fields.prompt), _texts(rows, fields.context)
    if contexts:
        prompts = [join_prompt(*pair) for pair in zip(prompts, contexts, strict=True)]
    return Part(
        prompts=prompts,
        answers=_texts(rows, fields.answer),
        texts=_texts(rows, fields.text),
        chats=_chats(rows, fields.messages, numbers),
    )


def join_prompt(prompt: str, context: str) -> str:
    return f"{prompt}\n{context}" if context else prompt


def _texts(rows: Rows, name: str | None) -> list[str]:
    """Numbers are taken as they are written; what is missing (a context) is empty."""
    if name is None:
        return []
    column = rows.column(name)
    return [
        "" if is_missing else _write(column, value)
        for value, is_missing in zip(column.values.tolist(), column.missing, strict=True)
    ]


def _write(column: Column, value: Any) -> str:
    if column.type == "boolean":
        return "true" if value else "false"
    return str(int(value)) if column.type == "integer" else str(value)


def _chats(rows: Rows, name: str | None, numbers: np.ndarray) -> list[list[Message]]:
    if name is None:
        return []
    texts = _texts(rows, name)
    return [_chat(text, int(row), name) for row, text in zip(numbers, texts, strict=True)]


def _chat(text: str, row: int, name: str) -> list[Message]:
    try:
        chat: Any = json.loads(text)
    except ValueError:
        chat = None
    if not _is_chat(chat):
        raise TrainingFailed(
            "data_error",
            f"Row {row}, column {name!r}: a chat is a list of messages like "
            '[{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}], '
            "with at least one answer of the assistant.",
        )
    return [{"role": message["role"], "content": message["content"]} for message in chat]


def _is_chat(chat: Any) -> bool:
    if not isinstance(chat, Sequence) or isinstance(chat, str):
        return False
    is_whole = all(
        isinstance(message, dict)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
        for message in chat
    )
    return is_whole and any(message["role"] == "assistant" for message in chat)
