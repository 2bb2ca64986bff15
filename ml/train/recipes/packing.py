"""Texts joined into blocks of one length: no token is lost, and none is padding.

The texts stand one after the other, each between two ends of text, and are cut wherever a block
is full. So a text sees what stands before it in its block, as it does in GPT-2's training.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def join_texts(texts: Iterable[list[int]], end: int) -> np.ndarray:
    """(tokens,): an end of text, and after it every text with its own end."""
    pieces = [np.array([end], np.int32)]
    for text in texts:
        pieces.append(np.array([*text, end], np.int32))
    return np.concatenate(pieces)


def cut_blocks(stream: np.ndarray, length: int) -> list[np.ndarray]:
    """Blocks of `length` tokens; the last may be shorter.

    A block begins with the last token of the one before: nothing stands before its first token
    that could foretell it. So every token of the stream but the first is foretold once.
    """
    return [stream[start : start + length] for start in range(0, len(stream) - 1, length - 1)]
