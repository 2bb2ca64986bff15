"""One worker process as the manager sees it: started, heard of through its reports, ended."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mlserver.lib.children import child_environment

logger = logging.getLogger(__name__)

Report = dict[str, Any]
READ_BYTES = 2**16
TOLD_OF_ERRORS = 500
CHATTER = "[W:onnxruntime"  # at its import, of files that the lock keeps closed


class WorkerProcess:
    """`python -P -m ml.serve` for one row; `socket` and the log lie in `folder`."""

    def __init__(
        self,
        name: str,
        folder: Path,
        spec: dict[str, Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.socket = f"{name}.sock"
        self.is_ready = False
        self.is_idle = True
        self.memory_bytes = 0
        self.ended: Report | None = None
        """What it told of why it ends."""
        self.drain_ends_at: float | None = None
        self._requests = 0
        self._clock = clock
        self._folder = folder
        self._log = folder / f"{name}.log"
        self._unread = b""
        (folder / self.socket).unlink(missing_ok=True)
        self._process = self._start({**spec, "parent": os.getpid()})
        self.started_at = self.used_at = self.heard_at = clock()

    def _start(self, spec: dict[str, Any]) -> subprocess.Popen[bytes]:
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ml.serve", self.socket],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._folder,  # the socket's name is relative: a path may be too long for it
                env=child_environment(),
                start_new_session=True,  # Ctrl-C reaches the manager, which then drains it
            )
        assert process.stdin is not None
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        try:
            process.stdin.write(json.dumps(spec).encode())
            process.stdin.close()
        except BrokenPipeError:
            logger.warning("A worker ended before it was told what to load")
        return process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_draining(self) -> bool:
        return self.drain_ends_at is not None

    @property
    def is_busy(self) -> bool:
        return self.is_ready and not self.is_idle

    def idle_seconds(self) -> float:
        return 0.0 if not self.is_idle else self._clock() - self.used_at

    def silent_seconds(self) -> float:
        return self._clock() - self.heard_at

    def hear(self) -> list[Report]:
        """What it reported since the last time."""
        reports = list(self._read())
        for report in reports:
            self._note(report)
        return reports

    def _read(self) -> Iterator[Report]:
        assert self._process.stdout is not None
        while chunk := _read_some(self._process.stdout.fileno()):
            self._unread += chunk
        *lines, self._unread = self._unread.split(b"\n")
        return map(json.loads, lines)

    def _note(self, report: Report) -> None:
        self.heard_at = self._clock()
        self.memory_bytes = report.get("memory_bytes", self.memory_bytes)
        self.is_idle = report.get("is_idle", self.is_idle)
        if report.get("requests", self._requests) != self._requests or not self.is_idle:
            self._requests = report["requests"]
            self.used_at = self._clock()
        match report["event"]:
            case "ready":
                self.is_ready = True
                self.used_at = self._clock()
            case "refused":
                self.ended = report

    def exit_code(self) -> int | None:
        """None while it lives; negative: the signal that ended it."""
        return self._process.poll()

    def read_last_words(self) -> str:
        """The last line that it, or a library in it, wrote to its log."""
        lines = self._log.read_bytes()[-4096:].decode(errors="replace").strip().splitlines()
        told = [line for line in lines if CHATTER not in line]
        return told[-1][:TOLD_OF_ERRORS] if told else ""

    def drain(self, within_seconds: float) -> None:
        """Ask it to answer what it has begun, and to end."""
        if self.drain_ends_at is None:
            self.drain_ends_at = self._clock() + within_seconds
            if self.exit_code() is None:
                self._process.send_signal(signal.SIGTERM)

    def end_if_overdue(self) -> None:
        if self.drain_ends_at is not None and self._clock() > self.drain_ends_at:
            self.kill()

    def kill(self) -> None:
        self._process.kill()

    def bury(self) -> None:
        """After its end, or to end it: no process, no pipe, no socket is left."""
        self.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        (self._folder / self.socket).unlink(missing_ok=True)


def _read_some(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, READ_BYTES)
    except BlockingIOError:
        return b""
