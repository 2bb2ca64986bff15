"""Tokens into text, as they come: whole characters only, and nothing that a stop string hides.

Where nobody listens and nothing is to stop it, all of them at the end, which is less work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

UNFINISHED = "\ufffd"
"""What half a character looks like."""


class Writer:
    """The text of one row. `text` is what it has said so far."""

    def __init__(self, tokenizer: Any, stops: Sequence[str], *, is_heard: bool) -> None:
        self._tokenizer, self._stops = tokenizer, stops
        self._waits = not (is_heard or stops)
        self._tokens: list[int] = []
        self._shown = self._context = 0
        self._decoded = ""
        self._told = 0
        self.is_stopped = False

    @property
    def text(self) -> str:
        return self._decoded[: self._told]

    def add(self, token: int) -> str:
        """What can be said now that this token came."""
        self._tokens.append(token)
        if self._waits:
            return ""
        before = self._decode(self._context, self._shown)
        now = self._decode(self._context, len(self._tokens))
        if len(now) <= len(before) or now.endswith(UNFINISHED):
            return ""
        self._take(now[len(before) :])
        return self._tell(is_last=False)

    def end(self) -> str:
        """What was held back."""
        if not self.is_stopped:
            before = self._decode(self._context, self._shown)
            self._take(self._decode(self._context, len(self._tokens))[len(before) :])
        return self._tell(is_last=True)

    def _decode(self, start: int, end: int) -> str:
        text: str = self._tokenizer.decode(self._tokens[start:end], skip_special_tokens=True)
        return text

    def _take(self, piece: str) -> None:
        """A token may look otherwise at the beginning than after others: two windows of tokens
        that begin at the same place tell what the last ones add."""
        self._context, self._shown = self._shown, len(self._tokens)
        searched_from = max(0, len(self._decoded) - max(map(len, self._stops), default=0))
        self._decoded += piece
        found = [self._decoded.find(stop, searched_from) for stop in self._stops]
        if places := [place for place in found if place >= 0]:
            self._decoded = self._decoded[: min(places)]
            self.is_stopped = True

    def _tell(self, *, is_last: bool) -> str:
        """Everything, but what may yet turn out to be the beginning of a stop string."""
        held = 0 if is_last or self.is_stopped else self._count_held()
        end = max(self._told, len(self._decoded) - held)
        piece, self._told = self._decoded[self._told : end], end
        return piece

    def _count_held(self) -> int:
        return max(
            (
                size
                for stop in self._stops
                for size in range(1, len(stop))
                if self._decoded.endswith(stop[:size])
            ),
            default=0,
        )
