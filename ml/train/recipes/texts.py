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
from ml.data.loader import as_target, read_version, read_version_schema
from ml.data.parts import find_groups, find_splits
from ml.data.target import choose_target
from ml.text_fields import NoSuchColumn, TextFields, find_fields
from ml.train.errors import TrainingFailed

LanguageConfig = Text2TextConfig | CausalConfig | ClassifyConfig
Message = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Records:
    """Rows that have all that is needed; every list is as long as the others."""

    fields: TextFields
    prompts: list[str]
    answers: list[str]
    texts: list[str]
    chats: list[list[Message]]
    target: np.ndarray | None
    target_name: str | None
    splits: np.ndarray | None
    groups: np.ndarray | None

    def __len__(self) -> int:
        return max(len(self.prompts), len(self.texts), len(self.chats))

    def texts_of(self, rows: np.ndarray) -> Iterator[str]:
        """Everything that is written in these rows: what a tokenizer is learned from."""
        for row in rows.tolist():
            for texts in (self.texts, self.prompts, self.answers):
                if texts:
                    yield texts[row]
            if self.chats:
                yield from (message["content"] for message in self.chats[row])


def open_records(config: LanguageConfig, folder: Path, warn: Callable[[str], None]) -> Records:
    """Relative paths start at `folder`. Raises TrainingFailed with data_error or spec_error."""
    try:
        rows = _open_rows(config, folder)
        fields = find_fields(config, [column.name for column in rows.columns])
        target = _find_target(config, rows)
        if target is not None and fields.text == target.name:
            sentence = f"text_column and target are both {target.name!r}; name another"
            raise NoSuchColumn("text_column", sentence)
    except DataError as error:
        raise TrainingFailed("data_error", str(error)) from error
    except NoSuchColumn as error:
        raise TrainingFailed("spec_error", f"{error}.") from error
    return _records(rows, fields, target, warn)


def _open_rows(config: LanguageConfig, folder: Path) -> Rows:
    reference = config.dataset
    if not isinstance(reference, DatasetReference):
        raise TrainingFailed(
            "spec_error", f"dataset must say where it lies ({{'path': …}}), got {reference!r}"
        )
    path = folder / reference.path
    content = read_version(path, read_version_schema(path))
    if isinstance(content, Pictures):
        raise DataError(f"The dataset holds images; recipe {config.recipe} learns from text.")
    return content


def _find_target(config: LanguageConfig, rows: Rows) -> Column | None:
    if not isinstance(config, ClassifyConfig):
        return None
    reference = config.dataset
    usual = reference.target if isinstance(reference, DatasetReference) else None
    name, _ = choose_target(rows, config.target or usual)
    return _column(rows, name)


def _records(
    rows: Rows, fields: TextFields, target: Column | None, warn: Callable[[str], None]
) -> Records:
    named = (fields.text, fields.messages, fields.prompt, fields.answer)
    needed = [_column(rows, name) for name in named if name is not None]
    keep = np.ones(len(rows), bool)
    for column in [*needed, *([target] if target else [])]:
        keep &= ~column.missing
    if lost := int((~keep).sum()):
        warn(f"{lost:,} of {len(rows):,} rows lack a text or a target and are left out.")
    if keep.sum() < 2:
        raise TrainingFailed("data_error", f"{keep.sum()} rows are too few to learn from.")
    splits, groups = find_splits(rows), find_groups(rows)
    return Records(
        fields=fields,
        prompts=_prompts(rows, fields, keep),
        answers=_texts(rows, fields.answer, keep),
        texts=_texts(rows, fields.text, keep),
        chats=_chats(rows, fields.messages, keep),
        target=None if target is None else as_target(target)[keep],
        target_name=None if target is None else target.name,
        splits=None if splits is None else splits[keep],
        groups=None if groups is None else groups[keep],
    )


def _prompts(rows: Rows, fields: TextFields, keep: np.ndarray) -> list[str]:
    prompts = _texts(rows, fields.prompt, keep)
    contexts = _texts(rows, fields.context, keep)
    if not contexts:
        return prompts
    return [join_prompt(prompt, more) for prompt, more in zip(prompts, contexts, strict=True)]


def join_prompt(prompt: str, context: str) -> str:
    return f"{prompt}\n{context}" if context else prompt


def _texts(rows: Rows, name: str | None, keep: np.ndarray) -> list[str]:
    """Numbers are taken as they are written; what is missing (a context) is empty."""
    if name is None:
        return []
    column = _column(rows, name)
    return [
        "" if is_missing else _write(column, value)
        for value, is_missing in zip(
            column.values[keep].tolist(), column.missing[keep], strict=True
        )
    ]


def _write(column: Column, value: Any) -> str:
    if column.type == "boolean":
        return "true" if value else "false"
    return str(int(value)) if column.type == "integer" else str(value)


def _chats(rows: Rows, name: str | None, keep: np.ndarray) -> list[list[Message]]:
    if name is None:
        return []
    numbers = np.flatnonzero(keep) + 1
    texts = _texts(rows, name, keep)
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


def _column(rows: Rows, name: str) -> Column:
    return next(column for column in rows.columns if column.name == name)
