"""Dynamic batching: requests that wait while the model computes are computed together.

Work-conserving: nothing is held back for company, a batch is whatever came while the one before
ran.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml.serve import queue
from ml.serve.errors import (
    ComputeFailed,
    InvalidInput,
    QueueFull,
    ServeError,
    TooManyRows,
    first_line,
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
class Item(queue.Item[Answer]):
    """Its size are rows; `key` is equal where they may be joined."""

    inputs: Inputs
    outputs: tuple[str, ...]
    key: Key
    most: int
    """Rows that the model may be given at once together with these."""


@dataclass
class Stats(queue.Stats):
    rows: int = 0
    batches: int = 0


class Batcher(queue.Queue[Item, Stats]):
    def __init__(self, runtime: Runtime, *, is_batchable: bool, limits: Limits | None = None):
        super().__init__(Stats())
        self._runtime = runtime
        self.output_names = tuple(spec.name for spec in runtime.signature.outputs)
        self.is_batchable = is_batchable
        self._limits = limits or Limits()
        self._timed_key: Key = ()
        self._row_seconds = 0.0
        """Of the newest batch."""

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
            rows, self._loop.time(), self._loop.create_future(),
            inputs, outputs, (most, *self._key(inputs, outputs)), most,
        )  # fmt: skip
        self._take_in(item, timeout_seconds)
        return item.future

    def close(self) -> None:
        super().close()
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
        if self._waiting and self.stats.waiting + rows > self._limits.queue_rows:
            self.stats.refused += 1
            raise QueueFull(
                f"{self.stats.waiting} rows wait for this model already, and"
                f" {self._limits.queue_rows} may."
            )

    def _key(self, inputs: Inputs, outputs: tuple[str, ...]) -> Key:
        if not self.is_batchable:
            return (object(),)  # equal to nothing
        return (outputs, *((name, array.shape[1:]) for name, array in inputs.items()))

    def _settle(self, item: Item, timer: asyncio.TimerHandle, future: asyncio.Future[Any]) -> None:
        super()._settle(item, timer, future)
        item.inputs = {}

    # --- Computing ------------------------------------------------------------------------

    async def _work(self) -> None:
        while batch := self._form_batch():
            await self._compute(batch)
            await asyncio.sleep(0)  # what was quick is sent, and what came meanwhile is read

    def _form_batch(self) -> list[Item]:
        """The oldest that somebody still waits for, and those behind it that may join it."""
        batch: list[Item] = []
        passed: list[Item] = []
        room = 0
        while (room > 0 or not batch) and (item := self._next()):
            if not batch:
                room = item.most
            if not batch or (item.key == batch[0].key and item.size <= room):
                batch.append(item)
                room -= item.size
                self._stop_waiting(item)
            else:
                passed.append(item)
        self._return(passed)
        return batch

    async def _compute(self, batch: list[Item]) -> None:
        rows, started = sum(item.size for item in batch), self._loop.time()
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
        self._row_seconds = seconds / max(1, sum(item.size for item in batch))
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
            return _split(outputs, [item.size for item in batch])
        except Exception:  # noqa: BLE001  (whatever the library raises: one may be to blame)
            return [self._compute_one(item) for item in batch]

    def _compute_one(self, item: Item) -> Inputs | ServeError:
        """A request larger than a batch is computed in parts."""
        step = item.most
        try:
            if item.size <= step:
                return self._runtime.predict(item.inputs, item.outputs)
            parts = [
                self._runtime.predict(_cut(item.inputs, start, start + step), item.outputs)
                for start in range(0, item.size, step)
            ]
        except ServeError as error:  # the runtime knows what is wrong with it
            return error
        except Exception as error:  # noqa: BLE001  (its sentence is all that is known)
            return ComputeFailed(f"The model could not compute this: {first_line(error)}")
        return {name: np.concatenate([part[name] for part in parts]) for name in item.outputs}


def _cut(arrays: Inputs, start: int, end: int) -> Inputs:
    return {name: array[start:end] for name, array in arrays.items()}


def _split(arrays: Inputs, sizes: list[int]) -> list[Inputs]:
    """To each request its rows; ValueError where the model gave more or fewer than it got."""
    ends = np.cumsum(sizes)
    if any(len(array) != ends[-1] for array in arrays.values()):
        raise ValueError("the number of rows changed")
    return [_cut(arrays, end - size, end) for size, end in zip(sizes, ends, strict=True)]
