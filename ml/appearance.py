"""What /proc shows of this process: a command line and an environment that are not those it was
started with, written over them in its own memory, as setproctitle does.

A process that was forked and not executed would otherwise look like its parent for ever.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path

ARG_START = 48  # field of /proc/self/stat, see proc(5); its end and the environment's two follow


class NoRoom(Exception):
    """What is to be shown is longer than what this process was started with."""


def appear_as(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Raises NoRoom.

    To be called only after os.environ was emptied: then nothing points to the memory any more.
    """
    title = _bytes(" ".join(command))
    variables = b"".join(_bytes(f"{name}={value}") for name, value in environment.items())
    first, end, first_variable, last_variable = _places()
    if len(title) >= end - first or len(variables) > last_variable - first_variable:
        raise NoRoom
    # A last byte that is not NUL tells the kernel to show the command line up to its first NUL.
    _write(first, title.ljust(end - first, b"-"))
    _write(first_variable, variables.ljust(last_variable - first_variable, b"\0"))


def _places() -> list[int]:
    # The program's name stands in brackets and may hold blanks; the third field follows it.
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return [int(field) for field in fields[ARG_START - 3 : ARG_START + 1]]


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape") + b"\0"


def _write(place: int, content: bytes) -> None:
    ctypes.memmove(place, content, len(content))
