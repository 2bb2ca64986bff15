"""Runs one-shot ML children (`python -P -m ml.run VERB`) within limits of time and memory.

No Django process parses a stranger's file or imports an ML library: a child does, and its
crash, hang or hunger ends here as a sentence.
"""

import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from math import ceil
from typing import Any

from ml.storable import read_storable
from mlserver.lib.errors import AppError, FieldError, Invalid

logger = logging.getLogger(__name__)

GIB = 2**30
KEPT_VARIABLES = ("PATH", "HOME", "LANG")
MEMORY_WORDS = re.compile(
    r"out of memory|memoryerror|cannot allocate|failed to allocate|bad_alloc", re.I
)


class ChildRefused(Invalid):
    """The child looked and said no; `row`, `column` and `byte` say where, if it knows."""

    def __init__(
        self,
        code: str,
        message: str,
        row: int | None = None,
        column: str | None = None,
        byte: int | None = None,
    ) -> None:
        field = FieldError(field="file", message=message, code=code)
        super().__init__(message, code=code, errors=[field])
        self.row = row
        self.column = column
        self.byte = byte


class ChildFailed(AppError):
    """The child ended without an answer, and the fault is the server's."""

    code = "child_failed"


class ChildTimedOut(ChildFailed):
    status = 422
    code = "timed_out"


class ChildOutOfMemory(ChildFailed):
    status = 422
    code = "out_of_memory"


class ChildCrashed(ChildFailed):
    """A signal ended the child while it read what it was given."""

    status = 422
    code = "crashed"


def run_ml(
    verb: str,
    payload: Mapping[str, Any],
    *,
    timeout_seconds: float = 120,
    memory_bytes: int | None = 4 * GIB,
) -> Any:
    """The verb's result (a dict for most); raises ChildRefused or a kind of ChildFailed."""
    process = _start(child_command(verb, timeout_seconds, memory_bytes))
    try:
        output, errors = process.communicate(json.dumps(payload).encode(), timeout_seconds)
    except subprocess.TimeoutExpired:
        raise ChildTimedOut(
            f"This took longer than {timeout_seconds:g} seconds and was stopped;"
            " a smaller file may go through."
        ) from None
    finally:
        _end(process)
    if process.returncode != 0:
        raise _failure(verb, process.returncode, errors.decode(errors="replace"))
    return read_answer(read_storable(output))


def child_command(verb: str, cpu_seconds: float, memory_bytes: int | None) -> list[str]:
    command = [sys.executable, "-P", "-m", "ml.run", verb]
    command += ["--cpu-seconds", str(ceil(cpu_seconds) + 1)]
    if memory_bytes is not None:
        command += ["--memory-bytes", str(memory_bytes)]
    return command


def child_environment() -> dict[str, str]:
    """Nothing secret, and no way to this project's folders: its app `datasets` would shadow
    Hugging Face's package."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return {**kept, "PYTHONSAFEPATH": "1"}


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        env=child_environment(),
        start_new_session=True,  # a group of its own, so that what it starts ends with it
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing of the child outlives the call, whichever way it ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def _failure(verb: str, code: int, errors: str) -> ChildFailed:
    logger.error("ml.run %s ended with %s: %s", verb, code, errors[-4000:])
    if MEMORY_WORDS.search(errors) or code == -signal.SIGKILL:
        return ChildOutOfMemory("Reading this takes more memory than one file may use; split it.")
    if code == -signal.SIGXCPU:
        return ChildTimedOut("This took too much computing time and was stopped.")
    if code < 0:
        name = signal.Signals(-code).name
        return ChildCrashed(f"The reader crashed on this file ({name}); it may be damaged.")
    return ChildFailed(f"The helper process for {verb!r} failed; the server's log says why.")


def read_answer(answer: dict[str, Any]) -> Any:
    if answer["ok"]:
        return answer["result"]
    raise ChildRefused(**answer["error"])
