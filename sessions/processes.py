"""The operating-system processes of a run: its launcher and everything under it."""

from contextlib import suppress

import psutil

from ml.rundir import RunDir


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
