"""The asynchronous client: many at once over one connection, cancelled with who asks."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from inference.client import NotAnswering, Pool, connect
from mlserver.lib.errors import Invalid
from tests.ml.serve.models import write_onnx
from tests.ml.serve.workers import WorkerProcess, worker

BODY = b'{"x": [[1, 2, 3, 4]]}'


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    # A path longer than the address of a socket may be.
    folder = tmp_path_factory.mktemp("client") / ("long" * 25) / "model"
    write_onnx(folder)
    with worker(folder) as started:
        started.wait_for("ready")
        yield started


def test_many_ask_at_once_over_one_connection(running: WorkerProcess) -> None:
    async def scene() -> None:
        pool = Pool()
        first = await pool.get(running.socket)
        assert await pool.get(running.socket) is first
        replies = await asyncio.gather(
            *(first.predict(BODY, timeout_seconds=30) for _ in range(300))
        )
        outputs = {body for _, body in replies}
        assert len(outputs) == 1
        assert len(orjson.loads(outputs.pop())["y"][0]) == 3
        pool.close()

    asyncio.run(scene())


def test_a_refusal_is_an_error_of_the_api(running: WorkerProcess) -> None:
    async def scene() -> None:
        connection = await connect(running.socket)
        with pytest.raises(Invalid) as caught:
            await connection.predict(b'{"z": 1}', timeout_seconds=30)
        assert caught.value.errors[0].field == "inputs.z"
        connection.close()

    asyncio.run(scene())


def test_who_goes_away_cancels_its_request(running: WorkerProcess) -> None:
    async def scene() -> None:
        connection = await connect(running.socket)
        asking = [
            asyncio.create_task(connection.predict(BODY, timeout_seconds=30)) for _ in range(50)
        ]
        await asyncio.sleep(0)  # they have asked
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        async with asyncio.timeout(30):
            while (await connection.ask({"kind": "stats"}))[0]["waiting"]:
                await asyncio.sleep(0.01)
        connection.close()

    asyncio.run(scene())


def test_a_worker_that_is_gone_is_told(tmp_path: Path) -> None:
    write_onnx(tmp_path / "model")

    async def scene() -> None:
        with worker(tmp_path / "model") as started:
            await asyncio.to_thread(started.wait_for, "ready")
            pool = Pool()
            connection = await pool.get(started.socket)
            await connection.predict(BODY, timeout_seconds=30)
            started.process.kill()
            started.process.wait()
            with pytest.raises(NotAnswering):
                await connection.predict(BODY, timeout_seconds=30)
            with pytest.raises(NotAnswering):
                await pool.get(started.socket)
            pool.close()

    asyncio.run(scene())
