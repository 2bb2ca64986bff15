"""One model behind a Unix socket: loads it in stages, answers frames, drains when asked to end."""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
import socket
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from ml.serve import frames
from ml.serve.batcher import Answer, Batcher, Limits
from ml.serve.errors import InvalidInput, LoadRefused, ServeError
from ml.serve.files import verify_files
from ml.serve.frames import BrokenFrame, FrameReader, Header
from ml.serve.memory import MemoryMeter
from ml.serve.runtimes import Options, Runtime, open_runtime
from ml.serve.spec import Spec
from ml.serve.tensors import read_inputs, to_json, to_tensors
from ml.serve.warmup import warm_up

logger = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
DEFAULT_TIMEOUT_SECONDS = 30.0
LONGEST_TIMEOUT_SECONDS = 3600.0

Report = Callable[[dict[str, Any]], None]


class Draining(ServeError):
    """The worker is about to end; another one may have the model."""

    code = "draining"


async def run(spec: Spec, listener: socket.socket, report: Report, meter: MemoryMeter) -> bool:
    """Load and serve until SIGTERM; False where the model was refused."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        runtime, is_batchable = await loop.run_in_executor(None, load, spec, report)
    except LoadRefused as error:
        report({"event": "refused", "code": error.code, "message": error.message})
        return False
    limits = Limits(**spec.limits)
    worker = Worker(runtime, Batcher(runtime, is_batchable=is_batchable, limits=limits), meter)
    is_asked_to_end = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, is_asked_to_end.set)
    server = await loop.create_unix_server(lambda: Connection(worker), sock=listener)
    seconds = round(loop.time() - started, 3)
    report({"event": "ready", "load_seconds": seconds, **worker.describe(), **worker.beat()})
    while not is_asked_to_end.is_set():
        try:
            await asyncio.wait_for(is_asked_to_end.wait(), BEAT_SECONDS)
        except TimeoutError:
            report({"event": "beat", **worker.beat()})
    server.close()
    await worker.end()
    return True


def load(spec: Spec, report: Report) -> tuple[Runtime, bool]:
    """The runtime, and whether its rows may be joined; raises LoadRefused."""
    if spec.files is not None:
        report({"event": "stage", "stage": "verify"})
        verify_files(spec.folder, spec.files)
    report({"event": "stage", "stage": "load"})
    options = Options(
        device=spec.device, threads=spec.threads, optimization_level=spec.optimization_level
    )
    try:
        runtime = open_runtime(spec.folder, options)
        report({"event": "stage", "stage": "warm_up"})
        return runtime, warm_up(runtime)
    except MemoryError as error:
        raise LoadRefused("The model needs more memory than it may have.") from error


class Worker:
    """The model, its batcher, and the connections of those who ask."""

    def __init__(self, runtime: Runtime, batcher: Batcher, meter: MemoryMeter) -> None:
        self.signature = runtime.signature
        self.batcher = batcher
        self.is_draining = False
        self.connections: set[Connection] = set()
        self._output_names = tuple(spec.name for spec in self.signature.outputs)
        self._meter = meter

    def describe(self) -> dict[str, Any]:
        return {"signature": self.signature.to_dict(), "is_batchable": self.batcher.is_batchable}

    def beat(self) -> dict[str, Any]:
        return {
            "memory_bytes": self._meter.read_bytes(),
            "is_idle": self.batcher.is_idle,
            "requests": self.batcher.stats.requests,
        }

    def submit(self, header: Header, body: bytes) -> asyncio.Future[Answer]:
        if self.is_draining:
            raise Draining("The model is being unloaded.")
        inputs = read_inputs(header, body, self.signature)
        return self.batcher.submit(inputs, self._outputs(header), _timeout(header))

    async def end(self) -> None:
        self.is_draining = True
        await self.batcher.drain()
        while any(connection.is_owed_answers for connection in self.connections):
            await asyncio.sleep(0.01)  # computed, but not yet written
        for connection in list(self.connections):
            connection.close()
        while self.connections:  # their last replies are on the way
            await asyncio.sleep(0.01)
        self.batcher.close()

    def _outputs(self, header: Header) -> tuple[str, ...]:
        asked = header.get("outputs")
        if not asked:
            return self._output_names
        for name in asked if isinstance(asked, list) else [asked]:
            if name not in self._output_names:
                known = ", ".join(self._output_names[:20])
                raise InvalidInput(
                    f"There is no output {str(name)[:100]!r}; the model gives {known}.",
                    field="outputs",
                )
        return tuple(asked)


def _timeout(header: Header) -> float:
    seconds = header.get("timeout_seconds", DEFAULT_TIMEOUT_SECONDS)
    if type(seconds) not in (int, float) or not 0 < seconds <= LONGEST_TIMEOUT_SECONDS:
        raise InvalidInput(
            f"timeout_seconds must be a number above 0, up to {LONGEST_TIMEOUT_SECONDS:g}.",
            field="timeout_seconds",
        )
    return float(seconds)


class Connection(asyncio.Protocol):
    """Whoever asks; when it goes away, its requests are forgotten."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._reader = FrameReader()
        self._pending: dict[Any, asyncio.Future[Answer]] = {}
        self._transport: asyncio.Transport | None = None

    @property
    def is_owed_answers(self) -> bool:
        return bool(self._pending)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._worker.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._worker.connections.discard(self)
        for future in self._pending.values():
            future.cancel()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        try:
            for header, body in self._reader.feed(data):
                self._take(header, body)
        except BrokenFrame as error:
            logger.warning("A connection was closed: %s", error)
            self.close()

    def _take(self, header: Header, body: bytes) -> None:
        try:
            match header.get("kind"):
                case "predict":
                    self._predict(header, body)
                case "cancel":
                    if future := self._pending.pop(header.get("id"), None):
                        future.cancel()
                case "stats":
                    self._send(header, asdict(self._worker.batcher.stats))
                case "describe":
                    self._send(header, self._worker.describe())
                case kind:
                    raise BrokenFrame(f"a frame of the unknown kind {kind!r}")
        except ServeError as error:
            self._refuse(header, error)

    def _predict(self, header: Header, body: bytes) -> None:
        number = header.get("id")
        if number in self._pending:
            raise BrokenFrame(f"two requests at once have the id {number!r}")
        future = self._worker.submit(header, body)
        self._pending[number] = future
        future.add_done_callback(functools.partial(self._answer, header))

    def _answer(self, header: Header, future: asyncio.Future[Answer]) -> None:
        self._pending.pop(header.get("id"), None)
        if future.cancelled():
            return
        if error := future.exception():
            assert isinstance(error, ServeError)
            self._refuse(header, error)
            return
        answer = future.result()
        facts = {
            "queue_seconds": answer.queue_seconds,
            "compute_seconds": answer.compute_seconds,
            "batch_rows": answer.batch_rows,
        }
        if header.get("return") == "tensors":
            described, parts = to_tensors(answer.outputs)
            self._send(header, {"tensors": described, **facts}, *parts)
        else:
            self._send(header, facts, to_json(answer.outputs))

    def _refuse(self, header: Header, error: ServeError) -> None:
        self._reply(
            {
                "id": header.get("id"),
                "ok": False,
                "code": error.code,
                "message": error.message,
                "field": error.field,
            }
        )

    def _send(self, header: Header, facts: dict[str, Any], *body: bytes | memoryview) -> None:
        self._reply({"id": header.get("id"), "ok": True, **facts}, *body)

    def _reply(self, header: Header, *body: bytes | memoryview) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(frames.pack(header, *body))
