"""python -P -m ml.serve SOCKET < spec.json

Holds one model and answers on a Unix socket that only its own user may open. It tells how it
fares on standard output, one JSON object a line: stages, `ready` or `refused`, then a beat a
second. Locks itself in before it imports anything heavy. SIGTERM drains it and ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml.lock import Limits, lock
from ml.serve.memory import MemoryMeter
from ml.serve.spec import Spec

PR_SET_PDEATHSIG = 1
REFUSED = 65
ORPHANED = 75
BACKLOG = 128


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -P -m ml.serve", description=__doc__)
    parser.add_argument("socket", type=Path, help="where to listen; must not exist yet")
    options = parser.parse_args(arguments)
    reports = os.dup(1)
    os.dup2(2, 1)  # whatever libraries print
    spec = Spec.from_dict(json.load(sys.stdin))
    if spec.parent is not None and not die_with(spec.parent):
        return ORPHANED
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)

    def report(facts: dict[str, Any]) -> None:
        os.write(reports, json.dumps(facts).encode() + b"\n")

    with listen(options.socket) as listener, asyncio.Runner() as runner:
        runner.get_loop()  # it needs a pair of sockets, which the lock forbids
        meter = MemoryMeter()
        lock_in(spec)
        # transformers would bring them along for what is not served: 40 MB and half a second.
        sys.modules["scipy"] = sys.modules["sklearn"] = None  # type: ignore[assignment]
        from ml.serve.worker import run  # numpy comes with it

        return 0 if runner.run(run(spec, listener, report, meter)) else REFUSED


def listen(path: Path) -> socket.socket:
    """A socket for this user alone, from its first moment on."""
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        listener.bind(os.fspath(path))
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    return listener


def lock_in(spec: Spec) -> None:
    """Only the model's folder and the libraries stay readable, whatever the model makes of us.

    With CUDA nothing is locked: its driver opens devices and files whenever it likes.
    """
    if spec.device == "cpu":
        lock(read=[spec.folder], limits=Limits(memory_bytes=spec.memory_bytes))


def die_with(parent: int) -> bool:
    """Never outlive the manager, however it ends; False where it is gone already."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent


if __name__ == "__main__":
    sys.exit(main())
