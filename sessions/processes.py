"""The operating-system processes of a run: its launcher and everything under it."""

import os
import signal
from contextlib import suppress

import psutil

from ml.rundir import RunDir


def process_tree(run: RunDir) -> list[psutil.Process]:
    """Whoever holds the run's lock, children first; empty when nobody does."""
    owner = run.lock_owner() if run.is_locked() else None
    if owner is None:
        return []
    try:
        launcher = psutil.Process(owner["pid"])
        return [*launcher.children(recursive=True), launcher]
    except psutil.NoSuchProcess:
        return []


def ask_to_end(run: RunDir) -> None:
    """SIGTERM to the launcher, which ends its trainer, gently and then hard."""
    owner = run.lock_owner() if run.is_locked() else None
    if owner is not None:
        with suppress(ProcessLookupError):  # it ended by itself in this moment
            os.kill(owner["pid"], signal.SIGTERM)


def end_trees(runs: list[RunDir], grace_seconds: float) -> None:
    """Wait for the processes of these runs to end; kill what is left after `grace_seconds`."""
    processes = [process for run in runs for process in process_tree(run)]
    _, alive = psutil.wait_procs(processes, timeout=grace_seconds)
    for process in alive:
        with suppress(psutil.NoSuchProcess):  # it died with the one before
            process.kill()
    psutil.wait_procs(alive, timeout=1)
