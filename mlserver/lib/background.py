"""Starts ML children that outlive their caller and answer into a folder; anybody may look later.

For work longer than a slice of the queue: one slice starts it, another finds it done.
"""

import contextlib
import fcntl
import json
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml.storable import read_storable
from mlserver.lib.children import (
    MEMORY_WORDS,
    ChildCrashed,
    ChildOutOfMemory,
    child_command,
    child_environment,
    read_answer,
)

logger = logging.getLogger(__name__)

# Kept so that those which have ended are reaped; nothing else depends on it.
_started: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class BackgroundChild:
    """One child, known by its folder: `lock` is held while it lives, `pid` says which it is,
    `answer.json` is written by it, `errors.log` holds what its libraries said."""

    folder: Path

    def has_begun(self) -> bool:
        return self.folder.is_dir()

    def start(
        self, verb: str, payload: Mapping[str, Any], *, cpu_seconds: float, memory_bytes: int
    ) -> None:
        self.run(child_command(verb, cpu_seconds, memory_bytes), payload, child_environment())

    def run(
        self, command: Sequence[str], payload: Mapping[str, Any], environment: Mapping[str, str]
    ) -> None:
        """A command that reads the payload and answers in JSON, as those of ml.run do."""
        self.folder.mkdir(parents=True)
        (self.folder / "payload.json").write_text(json.dumps(payload))
        # The child inherits the open lock: the kernel frees it when the child ends, however. It
        # can hold it but not write: what it says of itself must not decide whom stop() kills.
        lock = os.open(self.folder / "lock", os.O_RDONLY | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            process = self._spawn(command, lock, environment)
            (self.folder / "pid").write_text(f"{process.pid}\n")
        finally:
            os.close(lock)
        _started.append(process)

    def _spawn(
        self, command: Sequence[str], lock: int, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        with (
            (self.folder / "payload.json").open("rb") as payload,
            (self.folder / "answer.json").open("wb") as answer,
            (self.folder / "errors.log").open("wb") as errors,
        ):
            return subprocess.Popen(
                command,
                stdin=payload,
                stdout=answer,
                stderr=errors,
                cwd="/",
                env=environment,
                pass_fds=[lock],
                start_new_session=True,  # the end of a worker does not reach it
            )

    def is_running(self) -> bool:
        _started[:] = [process for process in _started if process.poll() is None]
        try:
            with (self.folder / "lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False  # whoever began it died before there was a child
        return False

    def stop(self) -> None:
        """Kill it with all that it started; the held lock proves that the pid is still its own."""
        if self.is_running():
            # ValueError: whoever began it has not said yet which child it is, or died before.
            with contextlib.suppress(ProcessLookupError, FileNotFoundError, ValueError):
                os.killpg(int((self.folder / "pid").read_text()), signal.SIGKILL)

    def answer(self) -> Any:
        """What the verb returned, once it no longer runs; raises ChildRefused or ChildFailed."""
        try:
            answer = read_storable((self.folder / "answer.json").read_bytes())
        except (ValueError, FileNotFoundError):
            raise self._failure() from None
        return read_answer(answer)

    def _failure(self) -> ChildCrashed | ChildOutOfMemory:
        log = self.folder / "errors.log"
        errors = log.read_text(errors="replace")[-4000:] if log.exists() else ""
        logger.error("the child in %s ended without an answer: %s", self.folder, errors)
        if MEMORY_WORDS.search(errors):
            return ChildOutOfMemory("This takes more memory than one file may use; split it.")
        return ChildCrashed("The helper process ended without an answer: it crashed or was killed.")

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
