"""Texts joined into blocks of one length: no token is lost, and none is padding.

The texts stand one after the other, each between two ends of text, and are cut wherever a block
is full. So a text sees what stands before it in its block, as it does in GPT-2's training.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np


def join_texts(texts: Iterable[list[int]], end: int) -> Iterator[list[int]]:
    """Tokens: an end of text, and after it every text with its own end."""
    yield [end]
    for text in texts:
        yield [*text, end]


def cut_blocks(size: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Where blocks of `length` begin and end in so many tokens; the last may be shorter.

    A block begins with the last token of the one before: nothing stands before its first token
    that could foretell it. So every token but the first is foretold once.
    """
    starts = np.arange(0, size - 1, length - 1)
    return starts, np.minimum(starts + length, size)
