"""Requests that wait for one model: taken in, answered, and forgotten when nobody waits any longer.

What batches and written texts have in common. Belongs to one event loop; the model computes in a
thread of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from ml.serve.errors import DeadlineMissed

Made = TypeVar("Made")


@dataclass(eq=False, slots=True)
class Item(Generic[Made]):
    """One request."""

    size: int
    """What it counts for while it waits."""
    queued_at: float
    future: asyncio.Future[Made]
    is_waiting: bool = field(default=True, kw_only=True)


@dataclass
class Stats:
    """Counts and sums since the start, which whoever reads them can take differences of."""

    requests: int = 0
    queue_seconds: float = 0.0
    compute_seconds: float = 0.0
    refused: int = 0
    expired: int = 0
    cancelled: int = 0
    failed: int = 0
    waiting: int = 0
    """Sizes of those who wait."""
    running_rows: int = 0
    largest_batch_rows: int = 0


ItemT = TypeVar("ItemT", bound=Item[Any])
StatsT = TypeVar("StatsT", bound=Stats)


class Queue(Generic[ItemT, StatsT]):
    """Works as long as somebody waits; `_work` says how."""

    def __init__(self, stats: StatsT) -> None:
        self.stats = stats
        self._waiting: deque[ItemT] = deque()
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compute")
        self._running: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        return self._running is None

    async def drain(self) -> None:
        """Until everything that was taken in is answered."""
        while self._running is not None:
            await asyncio.wait([self._running])

    def close(self) -> None:
        """After drain()."""
        self._thread.shutdown()

    async def _work(self) -> None:
        """Until nobody waits."""
        raise NotImplementedError

    def _take_in(self, item: ItemT, timeout_seconds: float) -> None:
        timer = self._loop.call_later(timeout_seconds, self._expire, item)
        item.future.add_done_callback(partial(self._settle, item, timer))
        self._waiting.append(item)
        self.stats.waiting += item.size
        if self._running is None:
            self._running = self._loop.create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._work()
        finally:
            self._running = None

    def _next(self) -> ItemT | None:
        """The oldest that somebody still waits for. Whoever takes it tells `_stop_waiting`, or
        gives it back with `_return`."""
        while self._waiting:
            item = self._waiting.popleft()
            if not item.future.done():
                return item
        return None

    def _return(self, passed: list[ItemT]) -> None:
        self._waiting.extendleft(reversed(passed))

    def _stop_waiting(self, item: ItemT) -> None:
        if item.is_waiting:
            item.is_waiting = False
            self.stats.waiting -= item.size

    def _settle(self, item: ItemT, timer: asyncio.TimerHandle, future: asyncio.Future[Any]) -> None:
        """Answered, expired, or its client went away: what waited takes no more room."""
        timer.cancel()
        self.stats.cancelled += future.cancelled()
        self._stop_waiting(item)

    def _expire(self, item: ItemT) -> None:
        if not item.future.done():
            self.stats.expired += 1
            waited = self._loop.time() - item.queued_at
            item.future.set_exception(
                DeadlineMissed(f"There was no whole answer within {waited:.1f} seconds.")
            )
