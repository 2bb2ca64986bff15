"""The operating-system processes of a run: its launcher and everything under it."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress

import psutil
from django.conf import settings

from ml.environment import launcher_environment
from ml.rundir import RunDir

LAUNCHER_LOG = "launcher.log"
WARM_SECONDS = 1.0
"""A warm trainer that has not answered by then is too busy, and a cold one starts."""


def start_launcher(
    run: RunDir, attempt: int, session_id: str, placement: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """The process that starts the trainer and outlives this one; `placement` is environment."""
    environment = {**launcher_environment(os.environ, session_id), **placement}
    # A session of its own: neither a signal to the worker's group nor the worker's end
    # reaches a training.
    command = [sys.executable, "-P", "-m", "ml.launch", str(run.path)]
    with (run.path / LAUNCHER_LOG).open("ab") as log:
        return subprocess.Popen(
            [*command, "--attempt", str(attempt)],
            cwd=run.path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def start_warm(run: RunDir, attempt: int, session_id: str, placement: Mapping[str, str]) -> bool:
    """Have the warm trainer start the launcher; False: it does not, or not in this environment."""
    request = {
        "run": str(run.path),
        "attempt": attempt,
        "environment": {**launcher_environment(os.environ, session_id), **placement},
    }
    try:
        # By way of its folder: the whole name may be too long for a socket.
        folder = os.open(settings.TRAINER_SOCKET.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as trainer:
                trainer.settimeout(WARM_SECONDS)
                trainer.connect(f"/proc/self/fd/{folder}/{settings.TRAINER_SOCKET.name}")
                trainer.sendall(json.dumps(request).encode() + b"\n")
                return trainer.recv(1) == b"1"
        finally:
            os.close(folder)
    except OSError:  # there is none, it is still importing, it died, it is slow
        return False


def process_tree(run: RunDir) -> list[psutil.Process]:
    """Whoever holds the run's lock, children first; empty when nobody does."""
    try:
        launcher = _find_launcher(run)
        return [*launcher.children(recursive=True), launcher] if launcher else []
    except psutil.NoSuchProcess:
        return []


def ask_to_end(run: RunDir) -> None:
    """SIGTERM to the launcher, which ends its trainer, gently and then hard."""
    with suppress(psutil.NoSuchProcess):  # it ended by itself in this moment
        if launcher := _find_launcher(run):
            launcher.terminate()


def _find_launcher(run: RunDir) -> psutil.Process | None:
    """The owner of the lock. Raises NoSuchProcess."""
    owner = run.lock_owner() if run.is_locked() else None
    if owner is None:
        return None
    process = psutil.Process(owner["pid"])
    # A new owner's name may not be written yet; the old one's number may be a stranger's by now.
    return process if any(run.path.name in word for word in process.cmdline()) else None


def end_trees(runs: list[RunDir], grace_seconds: float) -> None:
    """Wait for the processes of these runs to end; kill what is left after `grace_seconds`."""
    processes = [process for run in runs for process in process_tree(run)]
    _, alive = psutil.wait_procs(processes, timeout=grace_seconds)
    for process in alive:
        with suppress(psutil.NoSuchProcess):  # it died with the one before
            process.kill()
    psutil.wait_procs(alive, timeout=1)
