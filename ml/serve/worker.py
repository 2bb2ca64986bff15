"""One model behind a Unix socket: loads it in stages, answers frames, drains when asked to end."""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
import socket
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson

from ml.serve.batcher import Answer, Batcher
from ml.serve.engines import Engine, Report, open_engine
from ml.serve.errors import InvalidInput, LoadRefused, NotOffered, ServeError
from ml.serve.frames import BrokenFrame, FrameReader, FrameWriter, Header
from ml.serve.memory import MemoryMeter
from ml.serve.spec import Spec
from ml.serve.tensors import read_inputs, to_json, to_tensors

if TYPE_CHECKING:
    from ml.serve.generation import Tell, Text
    from ml.serve.review import Review

logger = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
DEFAULT_TIMEOUT_SECONDS = 30.0
LONGEST_TIMEOUT_SECONDS = 3600.0


class Draining(ServeError):
    """The worker is about to end; another one may have the model."""

    code = "draining"


async def run(spec: Spec, listener: socket.socket, report: Report, meter: MemoryMeter) -> bool:
    """Load and serve until SIGTERM; False where the model was refused."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        worker = Worker(await open_engine(spec, report), meter)
    except LoadRefused as error:
        report({"event": "refused", "code": error.code, "message": error.message})
        return False
    is_asked_to_end = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, is_asked_to_end.set)
    server = await loop.create_unix_server(lambda: Connection(worker), sock=listener)
    seconds = round(loop.time() - started, 3)
    report({"event": "ready", "load_seconds": seconds, **worker.engine.describe(), **worker.beat()})
    while not is_asked_to_end.is_set():
        try:
            await asyncio.wait_for(is_asked_to_end.wait(), BEAT_SECONDS)
        except TimeoutError:
            report({"event": "beat", **worker.beat()})
    server.close()
    await worker.end()
    return True


class Worker:
    """The model's engine, and the connections of those who ask."""

    def __init__(self, engine: Engine, meter: MemoryMeter) -> None:
        self.engine = engine
        self.is_draining = False
        self.connections: set[Connection] = set()
        self._meter = meter

    def beat(self) -> dict[str, Any]:
        return {
            "memory_bytes": self._meter.read_bytes(),
            "is_idle": self.engine.is_idle,
            "requests": self.engine.stats.requests,
        }

    def predict(self, header: Header, body: bytes) -> asyncio.Future[Answer]:
        if not isinstance(self.engine, Batcher):
            raise NotOffered("This model writes text; ask it to generate.")
        inputs = read_inputs(header, body, self.engine.signature)
        outputs = self._outputs(self.engine, header)
        return self.engine.submit(inputs, outputs, _timeout(header), _batch_rows(header))

    def generate(self, header: Header, body: bytes, tell: Tell) -> asyncio.Future[Text]:
        """`tell` gets the pieces as they are written, where the header asks for a stream."""
        if isinstance(self.engine, Batcher):
            raise NotOffered("This model does not write text; ask it to predict.")
        from ml.serve.wishes import read_wish  # torch comes with it

        wish = read_wish(header, body, self.engine)
        return self.engine.submit(wish, _timeout(header), tell if header.get("stream") else None)

    def review(self, header: Header, body: bytes) -> asyncio.Future[Review]:
        if not isinstance(self.engine, Batcher):
            raise NotOffered("This model writes text; it does not tell code apart.")
        from ml.serve.review import review  # the rules come with it

        worst, source = str(header.get("worst")), body.decode("utf-8", "replace")
        return asyncio.ensure_future(review(self.engine, source, worst, _timeout(header)))

    def require_open(self) -> None:
        if self.is_draining:
            raise Draining("The model is being unloaded.")

    async def end(self) -> None:
        self.is_draining = True
        await self.engine.drain()
        while any(connection.is_owed_answers for connection in self.connections):
            await asyncio.sleep(0.01)  # computed, but not yet written
        for connection in list(self.connections):
            connection.close()
        while self.connections:  # their last replies are on the way
            await asyncio.sleep(0.01)
        self.engine.close()

    def _outputs(self, engine: Batcher, header: Header) -> tuple[str, ...]:
        asked, known_names = header.get("outputs"), engine.output_names
        if not asked:
            return known_names
        for name in asked if isinstance(asked, list) else [asked]:
            if name not in known_names:
                known = ", ".join(known_names[:20])
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


def _batch_rows(header: Header) -> int | None:
    rows: int | None = header.get("batch_rows")
    if rows is not None and (type(rows) is not int or rows < 1):
        raise InvalidInput("batch_rows must be a whole number from 1.", field="batch_rows")
    return rows


class Connection(asyncio.Protocol):
    """Whoever asks; when it goes away, its requests are forgotten."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._reader = FrameReader()
        self._pending: dict[Any, asyncio.Future[Any]] = {}
        self._transport: asyncio.Transport | None = None
        self._writer: FrameWriter | None = None

    @property
    def is_owed_answers(self) -> bool:
        return bool(self._pending)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._writer = FrameWriter(transport)
        self._worker.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._worker.connections.discard(self)
        for future in self._pending.values():
            future.cancel()

    def close(self) -> None:
        if self._transport is not None and self._writer is not None:
            self._writer.flush()
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
                case "predict" | "generate" | "review":
                    self._ask(header, body)
                case "cancel":
                    if future := self._pending.pop(header.get("id"), None):
                        future.cancel()
                case "stats":
                    self._send(header, asdict(self._worker.engine.stats))
                case "describe":
                    self._send(header, self._worker.engine.describe())
                case kind:
                    raise BrokenFrame(f"a frame of the unknown kind {kind!r}")
        except ServeError as error:
            self._refuse(header, error)

    def _ask(self, header: Header, body: bytes) -> None:
        number = header.get("id")
        if number in self._pending:
            raise BrokenFrame(f"two requests at once have the id {number!r}")
        self._worker.require_open()
        future = self._begin(header, body)
        self._pending[number] = future
        future.add_done_callback(functools.partial(self._settle, header))

    def _begin(self, header: Header, body: bytes) -> asyncio.Future[Any]:
        match header["kind"]:
            case "predict":
                return self._worker.predict(header, body)
            case "review":
                return self._worker.review(header, body)
        return self._worker.generate(header, body, functools.partial(self._tell, header))

    def _settle(self, header: Header, future: asyncio.Future[Any]) -> None:
        self._pending.pop(header.get("id"), None)
        if future.cancelled():
            return
        if error := future.exception():
            assert isinstance(error, ServeError)
            self._refuse(header, error)
        elif header["kind"] == "predict":
            self._answer(header, future.result())
        elif header["kind"] == "review":
            self._send(header, {}, orjson.dumps(asdict(future.result())))
        else:
            text: Text = future.result()
            facts = asdict(text)
            self._send(header, facts, orjson.dumps(facts.pop("texts")))

    def _tell(self, header: Header, number: int, piece: str) -> None:
        self._send(header, {"is_last": False, "number": number}, piece.encode())

    def _answer(self, header: Header, answer: Answer) -> None:
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
        if self._writer is not None:
            self._writer.write(header, *body)
