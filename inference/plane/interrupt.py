"""Ends from outside what a request waits for: its client went away, or its time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Interruptible:
    """A block that ends with whatever error it is interrupted by.

    As asyncio.timeout does it, but at a tenth of its price: nearly no request needs it.
    """

    __slots__ = ("_make_error", "_task")

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        self._make_error: Callable[[], Exception] | None = None
        return self

    def interrupt(self, make_error: Callable[[], Exception]) -> None:
        """By a callback or another task, while the block waits."""
        if self._make_error is None and self._task is not None:
            self._make_error = make_error
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if self._make_error is not None and task is not None:
            task.uncancel()
            if kind is asyncio.CancelledError:
                raise self._make_error() from None
