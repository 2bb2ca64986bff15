"""A real worker process and somebody who asks it, for tests."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson

from ml.serve.frames import Frame, FrameReader, pack


class Asker:
    """One connection; blocking, with a limit."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise
        self._reader = FrameReader()
        self._waiting: list[Frame] = []

    def send(self, header: dict[str, Any], *body: bytes) -> None:
        self._socket.sendall(b"".join(pack(header, *body)))

    def receive(self) -> Frame:
        while not self._waiting:
            data = self._socket.recv(2**16)
            if not data:
                raise EOFError
            self._waiting += self._reader.feed(data)
        return self._waiting.pop(0)

    def receive_rest(self) -> Iterator[Frame]:
        """Until the worker hangs up."""
        with suppress(EOFError):
            while True:
                yield self.receive()

    def predict(self, inputs: Any, **header: Any) -> tuple[dict[str, Any], Any]:
        """The reply's header, and the outputs as JSON."""
        self.send({"kind": "predict", "id": 1, **header}, orjson.dumps(inputs))
        reply, body = self.receive()
        return reply, orjson.loads(body) if body else None

    def close(self) -> None:
        self._socket.close()


class WorkerProcess:
    def __init__(self, folder: Path, socket_path: Path, **spec: Any) -> None:
        self.socket = socket_path
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ml.serve", socket_path.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=socket_path.parent,
            env={"PATH": os.environ["PATH"], "PYTHONSAFEPATH": "1"},
        )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"folder": str(folder), **spec}).encode())
        self.process.stdin.close()
        self.reports: list[dict[str, Any]] = []

    def wait_for(self, *events: str) -> dict[str, Any]:
        """The next report of one of these kinds."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            report: dict[str, Any] = json.loads(line)
            self.reports.append(report)
            if report["event"] in events:
                return report
        raise AssertionError(f"the worker ended with {self.process.wait()}: {self.reports}")

    @contextmanager
    def asking(self) -> Iterator[Asker]:
        # A path of /proc, because that of a test's folder may be longer than a socket's may be.
        folder = os.open(self.socket.parent, os.O_PATH)
        asker = Asker(f"/proc/self/fd/{folder}/{self.socket.name}")
        os.close(folder)
        try:
            yield asker
        finally:
            asker.close()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def worker(folder: Path, **spec: Any) -> Iterator[WorkerProcess]:
    started = WorkerProcess(folder, folder.parent / f"{folder.name}.sock", **spec)
    try:
        yield started
    finally:
        started.end()
