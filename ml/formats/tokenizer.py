"""Looks through tokenizer.json before the library does, which trusts every number in it."""

import json
from pathlib import Path
from typing import Any

from ml.formats.refusal import ModelRefused

FILE = "tokenizer.json"
MAX_BYTES = 48 * 10**6
"""The largest in use, of 262,000 words, has 34 MB."""
MAX_PADDING = 2**17
MAX_TRUNCATION = 2**31
MAX_WORDS = 2_000_000
MAX_ADDED_WORDS = 100_000


def check_tokenizer(folder: Path) -> None:
    """Raises ModelRefused where a length or a vocabulary is beyond all use; a folder without
    the file has nothing to check."""
    path = folder / FILE
    if not path.is_file():
        return
    content = _read(path)
    _check_padding(content.get("padding"))
    truncation = content.get("truncation")
    if truncation is not None:
        _check_length(truncation, "max_length", "truncation", MAX_TRUNCATION)
        _check_length(truncation, "stride", "truncation", MAX_TRUNCATION)
    model = content.get("model")
    if not isinstance(model, dict):
        raise ModelRefused(f"{FILE} has no model; save it with tokenizer.save_pretrained().")
    _check_count(model.get("vocab", {}), MAX_WORDS, "words")
    _check_count(content.get("added_tokens") or [], MAX_ADDED_WORDS, "added words")
    _try(path)


def _try(path: Path) -> None:
    """The library itself, once: should it crash, a child crashes and not who serves the model."""
    from tokenizers import Tokenizer

    try:
        Tokenizer.from_file(str(path)).encode("a")
    except Exception as error:  # the library raises nothing more precise
        raise ModelRefused(f"{FILE} cannot be used: {str(error)[:200]}.") from error


def _read(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_BYTES:
        size = path.stat().st_size
        raise ModelRefused(f"{FILE} has {size:,} bytes; at most {MAX_BYTES:,} are read.")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelRefused(f"{FILE} is not JSON: {str(error)[:200]}.") from error
    if not isinstance(content, dict):
        raise ModelRefused(f"{FILE} must hold a JSON object.")
    return content


def _check_padding(padding: Any) -> None:
    """Padding to a fixed length takes that memory for every text."""
    if padding is None:
        return
    strategy = padding.get("strategy") if isinstance(padding, dict) else None
    if isinstance(strategy, dict):
        _check_length(strategy, "Fixed", "padding.strategy", MAX_PADDING)
    elif strategy != "BatchLongest":
        raise ModelRefused(f"{FILE}: padding has an unknown strategy.")
    _check_length(padding, "pad_to_multiple_of", "padding", MAX_PADDING)


def _check_length(part: Any, name: str, place: str, limit: int) -> None:
    if not isinstance(part, dict):
        raise ModelRefused(f"{FILE}: {place} must be an object.")
    value = part.get(name)
    if value is not None and (type(value) is not int or not 0 <= value <= limit):
        raise ModelRefused(
            f"{FILE}: {place}.{name} is {str(value)[:40]}, which must be from 0 to {limit:,};"
            " set padding and truncation to null and save it again."
        )


def _check_count(values: Any, limit: int, noun: str) -> None:
    if not isinstance(values, (dict, list)) or len(values) > limit:
        count = len(values) if isinstance(values, (dict, list)) else 0
        raise ModelRefused(f"{FILE} has {count:,} {noun}; at most {limit:,} are read.")
