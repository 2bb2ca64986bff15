"""Batches: who is joined with whom, who is refused, who is forgotten. The model waits for us."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
import pytest

from ml.serve import batcher as batcher_module
from ml.serve.batcher import Batcher, Limits
from ml.serve.errors import ComputeFailed, DeadlineMissed, InvalidInput, QueueFull, TooManyRows
from ml.serve.signature import Signature, TensorSpec
from ml.serve.tensors import Inputs

SPEC = TensorSpec(name="x", datatype="FP32", shape=(None, None))
LONG = 60.0


class Doubling:
    """y = 2x; -1 is an error. Computes only while `may_go` is set."""

    signature = Signature(inputs=(SPEC,), outputs=(SPEC,))

    def __init__(self) -> None:
        self.may_go = threading.Event()
        self.has_begun = threading.Event()
        self.batches: list[list[float]] = []

    def predict(self, inputs: Inputs, outputs: Sequence[str]) -> Inputs:
        self.has_begun.set()
        assert self.may_go.wait(60)
        self.batches.append([float(row[0]) for row in inputs["x"]])
        if (inputs["x"] == -1).any():
            raise RuntimeError("minus one\nmore")
        return dict.fromkeys(outputs, inputs["x"] * 2)

    def close(self) -> None:
        return None


def row(*values: float, width: int = 1) -> Inputs:
    return {"x": np.array([[value] * width for value in values], np.float32)}


Scene = Callable[[Doubling, Batcher], Coroutine[Any, Any, None]]


def play(scene: Scene, *, is_batchable: bool = True, **limits: int) -> Doubling:
    """Run the scene while the model computes a first request, 0, and waits for `may_go`."""
    model = Doubling()

    async def run() -> None:
        batcher = Batcher(model, is_batchable=is_batchable, limits=Limits(**limits))
        first = batcher.submit(row(0), ("y",), LONG)
        await asyncio.to_thread(model.has_begun.wait, 60)
        try:
            await scene(model, batcher)
        finally:
            model.may_go.set()
            await first
            await batcher.drain()
            batcher.close()

    asyncio.run(run())
    return model


def test_what_comes_while_the_model_computes_is_computed_together() -> None:
    async def scene(model: Doubling, batcher: Batcher) -> None:
        waiting = [batcher.submit(row(n), ("y",), LONG) for n in (1, 2, 3)]
        model.may_go.set()
        answers = await asyncio.gather(*waiting)
        assert [float(answer.outputs["y"][0, 0]) for answer in answers] == [2, 4, 6]
        assert {answer.batch_rows for answer in answers} == {3}

    assert play(scene).batches == [[0], [1, 2, 3]]


def test_what_is_quick_needs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher_module, "QUICK_SECONDS", 0.5)  # on any machine
    model = Doubling()
    model.may_go.set()
    threads: list[int] = []

    def predict(inputs: Inputs, outputs: Sequence[str]) -> Inputs:
        threads.append(threading.get_ident())
        return dict.fromkeys(outputs, inputs["x"])

    model.predict = predict  # type: ignore[method-assign]

    async def run() -> None:
        batcher = Batcher(model, is_batchable=True)
        for width in (1, 1, 2):
            await batcher.submit(row(1, width=width), ("y",), LONG)
        batcher._row_seconds = 1.0
        await batcher.submit(row(1, width=2), ("y",), LONG)
        await batcher.drain()
        batcher.close()

    asyncio.run(run())
    here = threading.get_ident()
    assert [thread == here for thread in threads] == [False, True, False, False]


def test_rows_are_counted_and_not_requests() -> None:
    async def scene(model: Doubling, batcher: Batcher) -> None:
        waiting = [batcher.submit(row(n, n), ("y",), LONG) for n in (1, 2, 3)]
        model.may_go.set()
        await asyncio.gather(*waiting)

    assert play(scene, batch_rows=4).batches == [[0], [1, 1, 2, 2], [3, 3]]


def test_a_request_larger_than_a_batch_is_computed_in_parts() -> None:
    async def scene(model: Doubling, batcher: Batcher) -> None:
        waiting = batcher.submit(row(1, 2, 3, 4, 5), ("y",), LONG)
        model.may_go.set()
        assert (await waiting).outputs["y"][:, 0].tolist() == [2, 4, 6, 8, 10]

    assert play(scene, batch_rows=2).batches == [[0], [1, 2], [3, 4], [5]]


def test_a_request_may_want_smaller_batches() -> None:
    async def scene(model: Doubling, batcher: Batcher) -> None:
        small = [batcher.submit(row(1, 2, 3), ("y",), LONG, 2)]
        small += [batcher.submit(row(value), ("y",), LONG, 2) for value in (4, 5, 6)]
        other = batcher.submit(row(7), ("y",), LONG, 100)
        model.may_go.set()
        answers = await asyncio.gather(*small, other)
        assert [float(answer.outputs["y"][-1, 0]) for answer in answers] == [6, 8, 10, 12, 14]

    model = play(scene, batch_rows=4)
    assert model.batches == [[0], [1, 2], [3], [4, 5], [6], [7]]


def test_only_equal_signatures_are_joined() -> None:
    async def scene(model: Doubling, batcher: Batcher) -> None:
        waiting = [batcher.submit(row(n, width=1 + n % 2), ("y",), LONG) for n in (1, 2, 3)]
        waiting.append(batcher.submit(row(4), ("z",), LONG))
        model.may_go.set()
        await asyncio.gather(*waiting)

    assert play(scene).batches == [[0], [1, 3], [2], [4]]


def test_a_model_that_takes_one_at_a_time_gets_one_at_a_time() -> None:
    async def scene(model: Doubling, batcher: Batcher) -> None:
        waiting = [batcher.submit(row(n), ("y",), LONG) for n in (1, 2)]
        model.may_go.set()
        await asyncio.gather(*waiting)

    assert play(scene, is_batchable=False).batches == [[0], [1], [2]]


def test_one_bad_request_fails_alone() -> None:
    async def scene(model: Doubling, batcher: Batcher) -> None:
        waiting = [batcher.submit(row(n), ("y",), LONG) for n in (1, -1, 3)]
        model.may_go.set()
        good, bad, other = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(bad, ComputeFailed)
        assert bad.message.endswith("minus one")
        assert not isinstance(good, BaseException)
        assert not isinstance(other, BaseException)

    assert play(scene).batches == [[0], [1, -1, 3], [1], [-1], [3]]


def test_who_went_away_is_not_computed() -> None:
    async def scene(model: Doubling, batcher: Batcher) -> None:
        staying, leaving = (batcher.submit(row(n), ("y",), LONG) for n in (1, 2))
        leaving.cancel()
        model.may_go.set()
        await staying
        assert batcher.stats.cancelled == 1

    assert play(scene).batches == [[0], [1]]


def test_a_deadline_is_answered_while_the_model_still_computes() -> None:
    async def scene(model: Doubling, batcher: Batcher) -> None:
        late = batcher.submit(row(1), ("y",), 0.01)
        with pytest.raises(DeadlineMissed):
            await late
        assert not model.may_go.is_set()
        assert batcher.stats.expired == 1

    assert play(scene).batches == [[0]]


def test_a_full_queue_refuses_at_once() -> None:
    async def scene(model: Doubling, batcher: Batcher) -> None:
        waiting = batcher.submit(row(1, 2), ("y",), LONG)
        with pytest.raises(QueueFull, match="2 rows wait"):
            batcher.submit(row(3), ("y",), LONG)
        model.may_go.set()
        await waiting
        await batcher.submit(row(3), ("y",), LONG)

    play(scene, queue_rows=2)


def test_one_request_may_bring_only_so_many_rows() -> None:
    async def scene(model: Doubling, batcher: Batcher) -> None:
        with pytest.raises(TooManyRows, match="3 rows; this has 4"):
            batcher.submit(row(1, 2, 3, 4), ("y",), LONG)

    play(scene, request_rows=3)


def test_inputs_of_unequal_length_are_refused() -> None:
    async def scene(model: Doubling, batcher: Batcher) -> None:
        with pytest.raises(InvalidInput, match="same number of rows"):
            batcher.submit({**row(1), "z": row(1, 2)["x"]}, ("y",), LONG)

    play(scene)
