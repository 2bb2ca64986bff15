"""Dynamic batching: requests that wait while the model computes are computed together.

Work-conserving: nothing is held back for company, a batch is whatever came while the one before
ran. Belongs to one event loop; the model computes in a thread of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml.serve.errors import (
    ComputeFailed,
    DeadlineMissed,
    InvalidInput,
    QueueFull,
    ServeError,
    TooManyRows,
)
from ml.serve.runtimes import Runtime
from ml.serve.signature import Signature
from ml.serve.tensors import Inputs

Key = tuple[Any, ...]

QUICK_SECONDS = 0.0005
"""A turn of the event loop may take so long: nobody waits for it noticeably."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    batch_rows: int = 32
    """Rows that the model is given at once."""
    request_rows: int = 4096
    queue_rows: int = 8192
    """Rows that may wait; a request that would be more is refused at once."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    outputs: Inputs
    queue_seconds: float
    compute_seconds: float
    """Of the whole batch."""
    batch_rows: int


@dataclass(eq=False, slots=True)
class Item:
    """One request that waits or is computed; `key` is equal where rows may be joined."""

    inputs: Inputs
    outputs: tuple[str, ...]
    rows: int
    key: Key
    queued_at: float
    future: asyncio.Future[Answer]
    most: int
    """Rows that the model may be given at once together with these."""
    is_waiting: bool = True


@dataclass
class Stats:
    """Counts and sums since the start, which whoever reads them can take differences of."""

    requests: int = 0
    rows: int = 0
    batches: int = 0
    queue_seconds: float = 0.0
    compute_seconds: float = 0.0
    refused: int = 0
    expired: int = 0
    cancelled: int = 0
    failed: int = 0
    waiting_rows: int = 0
    running_rows: int = 0
    largest_batch_rows: int = 0


class Batcher:
    def __init__(self, runtime: Runtime, *, is_batchable: bool, limits: Limits | None = None):
        self.stats = Stats()
        self._runtime = runtime
        self.output_names = tuple(spec.name for spec in runtime.signature.outputs)
        self.is_batchable = is_batchable
        self._limits = limits or Limits()
        self._waiting: deque[Item] = deque()
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compute")
        self._running: asyncio.Task[None] | None = None
        self._timed_key: Key = ()
        self._row_seconds = 0.0
        """Of the newest batch."""

    @property
    def is_idle(self) -> bool:
        return self._running is None

    @property
    def signature(self) -> Signature:
        return self._runtime.signature

    def describe(self) -> dict[str, Any]:
        return {"signature": self.signature.to_dict(), "is_batchable": self.is_batchable}

    def submit(
        self,
        inputs: Inputs,
        outputs: tuple[str, ...],
        timeout_seconds: float,
        batch_rows: int | None = None,
    ) -> asyncio.Future[Answer]:
        """The answer to come; cancel it and the request is forgotten. `batch_rows`: fewer than the
        limit, for a request that says so. Raises QueueFull, TooManyRows and InvalidInput; the
        future raises DeadlineMissed and ComputeFailed."""
        rows = self._count(inputs)
        self._check_limits(rows)
        most = min(batch_rows or self._limits.batch_rows, self._limits.batch_rows)
        item = Item(
            inputs, outputs, rows, (most, *self._key(inputs, outputs)), self._loop.time(),
            self._loop.create_future(), most,
        )  # fmt: skip
        timer = self._loop.call_later(timeout_seconds, self._expire, item)
        item.future.add_done_callback(lambda _: self._settle(item, timer))
        self._waiting.append(item)
        self.stats.waiting_rows += rows
        if self._running is None:
            self._running = self._loop.create_task(self._run())
        return item.future

    async def drain(self) -> None:
        """Until everything that was taken in is answered."""
        while self._running is not None:
            await asyncio.wait([self._running])

    def close(self) -> None:
        """After drain()."""
        self._thread.shutdown()
        self._runtime.close()

    # --- Taking in ------------------------------------------------------------------------

    def _count(self, inputs: Inputs) -> int:
        if not (self.is_batchable and inputs):
            return 1
        counts = {name: array.shape[0] for name, array in inputs.items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name} {count}" for name, count in list(counts.items())[:20])
            raise InvalidInput(f"All inputs need the same number of rows; there are {told}.")
        return int(next(iter(counts.values())))

    def _check_limits(self, rows: int) -> None:
        if rows > self._limits.request_rows:
            raise TooManyRows(
                f"One request may bring {self._limits.request_rows} rows; this has {rows}."
            )
        if self._waiting and self.stats.waiting_rows + rows > self._limits.queue_rows:
            self.stats.refused += 1
            raise QueueFull(
                f"{self.stats.waiting_rows} rows wait for this model already, and"
                f" {self._limits.queue_rows} may."
            )

    def _key(self, inputs: Inputs, outputs: tuple[str, ...]) -> Key:
        if not self.is_batchable:
            return (object(),)  # equal to nothing
        return (outputs, *((name, array.shape[1:]) for name, array in inputs.items()))

    def _settle(self, item: Item, timer: asyncio.TimerHandle) -> None:
        """Answered, expired, or its client went away: what waited takes no more room."""
        timer.cancel()
        self.stats.cancelled += item.future.cancelled()
        self._stop_waiting(item)
        item.inputs = {}

    def _stop_waiting(self, item: Item) -> None:
        if item.is_waiting:
            item.is_waiting = False
            self.stats.waiting_rows -= item.rows

    def _expire(self, item: Item) -> None:
        if not item.future.done():
            self.stats.expired += 1
            waited = self._loop.time() - item.queued_at
            item.future.set_exception(
                DeadlineMissed(f"There was no answer within {waited:.1f} seconds.")
            )

    # --- Computing ------------------------------------------------------------------------

    async def _run(self) -> None:
        while batch := self._form_batch():
            await self._compute(batch)
            await asyncio.sleep(0)  # what was quick is sent, and what came meanwhile is read
        self._running = None

    def _form_batch(self) -> list[Item]:
        """The oldest that somebody still waits for, and those behind it that may join it."""
        batch: list[Item] = []
        passed: list[Item] = []
        room = 0
        while self._waiting and (room > 0 or not batch):
            item = self._waiting.popleft()
            if item.future.done():
                continue
            if not batch:
                room = item.most
            if not batch or (item.key == batch[0].key and item.rows <= room):
                batch.append(item)
                room -= item.rows
                self._stop_waiting(item)
            else:
                passed.append(item)
        self._waiting.extendleft(reversed(passed))
        return batch

    async def _compute(self, batch: list[Item]) -> None:
        rows, started = sum(item.rows for item in batch), self._loop.time()
        self.stats.running_rows = rows
        try:
            if self._is_quick(batch[0].key, rows):
                results = self._compute_all(batch)
            else:
                results = await self._loop.run_in_executor(self._thread, self._compute_all, batch)
        finally:
            self.stats.running_rows = 0
        seconds = self._loop.time() - started
        self._count_batch(batch, rows, started, seconds)
        for item, result in zip(batch, results, strict=True):
            if item.future.done():  # it went away while the model computed
                continue
            if isinstance(result, ServeError):
                self.stats.failed += 1
                item.future.set_exception(result)
            else:
                item.future.set_result(
                    Answer(
                        outputs=result,
                        queue_seconds=started - item.queued_at,
                        compute_seconds=seconds,
                        batch_rows=rows,
                    )
                )

    def _count_batch(self, batch: list[Item], rows: int, started: float, seconds: float) -> None:
        self.stats.requests += len(batch)
        self.stats.rows += rows
        self.stats.batches += 1
        self.stats.compute_seconds += seconds
        self.stats.queue_seconds += sum(started - item.queued_at for item in batch)
        self.stats.largest_batch_rows = max(self.stats.largest_batch_rows, rows)

    def _is_quick(self, key: Key, rows: int) -> bool:
        """Whether going to the thread and back would take longer than to compute: rows of this
        shape did so the last time."""
        return key == self._timed_key and rows * self._row_seconds < QUICK_SECONDS

    def _compute_all(self, batch: list[Item]) -> Sequence[Inputs | ServeError]:
        """In the thread, unless it is quick."""
        started = time.perf_counter()
        results = self._compute_joined(batch)
        seconds = time.perf_counter() - started
        self._timed_key = batch[0].key
        self._row_seconds = seconds / max(1, sum(item.rows for item in batch))
        return results

    def _compute_joined(self, batch: list[Item]) -> Sequence[Inputs | ServeError]:
        """If the batch fails, each request is tried alone."""
        if len(batch) == 1:
            return [self._compute_one(batch[0])]
        try:
            joined = {
                name: np.concatenate([item.inputs[name] for item in batch])
                for name in batch[0].inputs
            }
            outputs = self._runtime.predict(joined, batch[0].outputs)
            return _split(outputs, [item.rows for item in batch])
        except Exception:  # noqa: BLE001  (whatever the library raises: one may be to blame)
            return [self._compute_one(item) for item in batch]

    def _compute_one(self, item: Item) -> Inputs | ServeError:
        """A request larger than a batch is computed in parts."""
        step = item.most
        try:
            if item.rows <= step:
                return self._runtime.predict(item.inputs, item.outputs)
            parts = [
                self._runtime.predict(_cut(item.inputs, start, start + step), item.outputs)
                for start in range(0, item.rows, step)
            ]
        except ServeError as error:  # the runtime knows what is wrong with it
            return error
        except Exception as error:  # noqa: BLE001  (its sentence is all that is known)
            return ComputeFailed(f"The model could not compute this: {_first_line(error)}")
        return {name: np.concatenate([part[name] for part in parts]) for name in item.outputs}


def _cut(arrays: Inputs, start: int, end: int) -> Inputs:
    return {name: array[start:end] for name, array in arrays.items()}


def _split(arrays: Inputs, sizes: list[int]) -> list[Inputs]:
    """To each request its rows; ValueError where the model gave more or fewer than it got."""
    ends = np.cumsum(sizes)
    if any(len(array) != ends[-1] for array in arrays.values()):
        raise ValueError("the number of rows changed")
    return [_cut(arrays, end - size, end) for size, end in zip(sizes, ends, strict=True)]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:500]
