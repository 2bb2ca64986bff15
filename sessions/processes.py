"""The operating-system processes of a run: its launcher and everything under it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress

import psutil

from ml import failpoints
from ml.rundir import RunDir

LAUNCHER_LOG = "launcher.log"
PASSED_ON = (
    "CUDA_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH",
    "OMP_NUM_THREADS",
    "TMPDIR",
    "HF_HOME",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    failpoints.SWITCH,
    failpoints.PLAN,
)


def start_launcher(
    run: RunDir, attempt: int, session_id: str, placement: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """The process that starts the trainer and outlives this one; `placement` is environment."""
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": os.environ.get("HOME", "/"),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "PYTHONSAFEPATH": "1",
        "MLSERVER_RUN": session_id,
        **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
        **placement,
    }
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
