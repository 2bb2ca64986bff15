"""What the user wants of a running training, asked of control.json a few times a second."""

from __future__ import annotations

import time

from ml.rundir import RunDir

POLL_SECONDS = 0.2


class Control:
    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._next_look = 0.0
        self._written: tuple[int, int] | None = None
        self._wanted = "run"

    def wanted(self) -> str:
        """What is wanted now, asked at every batch: who does not ask for long is taken to hang.

        It stays wanted until it is obeyed or the file says otherwise.
        """
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + POLL_SECONDS
            self._look()
        return self._wanted

    def obeyed(self) -> None:
        """A "checkpoint" is saved: without this, each look would save another one."""
        self._wanted = "run"

    def _look(self) -> None:
        self._run.beat()
        try:
            status = self._run.control_path.stat()
        except FileNotFoundError:
            return
        written = (status.st_ino, status.st_mtime_ns)
        if written != self._written:
            self._written = written
            self._wanted = self._run.read_control()
