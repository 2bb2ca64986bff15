"""Which columns of a dataset a language model learns from, found by their usual names.

Standard library only: the server asks before it takes a session, the trainer when it starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ml.config import CausalConfig, ClassifyConfig, Text2TextConfig

PAIRS = (
    ("instruction", "output"),
    ("instruction", "response"),
    ("input", "output"),
    ("source", "target"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("src", "tgt"),
    ("text", "summary"),
)
TEXTS = ("text", "code", "content", "sentence", "snippet", "function")
MESSAGES = "messages"
INSTRUCTION, CONTEXT = "instruction", "input"


class NoSuchColumn(ValueError):
    """A column that is needed is not there; `field` of the configuration can name another."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(sentence)
        self.field = field


@dataclass(frozen=True, kw_only=True)
class TextFields:
    """Names of columns; None for what this way of learning does not have."""

    text: str | None = None
    """Whole texts: to go on with, or to classify."""
    messages: str | None = None
    """Chats: JSON lists of {role, content}."""
    prompt: str | None = None
    context: str | None = None
    """Put under the prompt where it is not empty, as in instruction, input, output."""
    answer: str | None = None


def find_fields(
    config: Text2TextConfig | CausalConfig | ClassifyConfig, columns: Sequence[str]
) -> TextFields:
    """Raises NoSuchColumn. The class of `classify` is found as any other target is."""
    if isinstance(config, Text2TextConfig):
        return _find_pair(columns, config.input_column, config.target)
    if config.text_column is not None:
        _require(columns, "text_column", config.text_column)
        return TextFields(text=config.text_column)
    if isinstance(config, CausalConfig):
        return _find_causal(columns)
    return TextFields(text=_find_text([name for name in columns if name != config.target]))


def _find_pair(columns: Sequence[str], prompt: str | None, answer: str | None) -> TextFields:
    for field, name in (("input_column", prompt), ("target", answer)):
        if name is not None:
            _require(columns, field, name)
    found = _match_pair(columns, prompt, answer)
    if found is None:
        raise NoSuchColumn(
            "input_column",
            "input_column and target must name the columns with input and answer, because none "
            f"are called input and output, or alike; there are {_listed(columns)}",
        )
    return found


def _match_pair(
    columns: Sequence[str], prompt: str | None = None, answer: str | None = None
) -> TextFields | None:
    if prompt and answer:
        return TextFields(prompt=prompt, answer=answer)
    known = {name.lower(): name for name in reversed(columns)}
    for usual_prompt, usual_answer in PAIRS:
        first, second = prompt or known.get(usual_prompt), answer or known.get(usual_answer)
        if first and second and first != second:
            context = known.get(CONTEXT) if first.lower() == INSTRUCTION else None
            return TextFields(prompt=first, answer=second, context=context)
    return None


def _find_causal(columns: Sequence[str]) -> TextFields:
    known = {name.lower(): name for name in reversed(columns)}
    if MESSAGES in known:
        return TextFields(messages=known[MESSAGES])
    return _match_pair(columns) or TextFields(text=_find_text(columns))


def _find_text(columns: Sequence[str]) -> str:
    known = {name.lower(): name for name in reversed(columns)}
    for usual in TEXTS:
        if usual in known:
            return known[usual]
    raise NoSuchColumn(
        "text_column",
        f"text_column must name the column with the text, because none is called "
        f"{', '.join(TEXTS[:3])}, or alike; there are {_listed(columns)}",
    )


def _require(columns: Sequence[str], field: str, name: str) -> None:
    if name not in columns:
        raise NoSuchColumn(
            field, f"{field} {name!r} is no column of the dataset; there are {_listed(columns)}"
        )


def _listed(columns: Sequence[str]) -> str:
    more = f" and {len(columns) - 20} more" if len(columns) > 20 else ""
    return ", ".join(columns[:20]) + more
