"""Several trainers that share one run: `python -m ml.train.torchrun RUN_DIR --processes N`.

torchrun starts them, gives each its rank, and ends all when one ends badly. This process holds
the run's lock for all of them, and passes on how the first of them failed.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import signal
import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from ml.environment import LOCK_VARIABLE
from ml.exits import EXIT_CODES, SENTENCES
from ml.rundir import LockHeld, RunDir


def run_ranks(run: RunDir, attempt: int, processes: int) -> int:
    """Exit code 0, or that of the rank that failed first; its signal is sent to this process."""
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=run.path.name,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",  # any free port
        local_addr="127.0.0.1",
        max_restarts=0,  # the supervisor decides what is tried again
        monitor_interval=0.1,
    )
    arguments = ["-P", "-m", "ml.train", str(run.path), "--attempt", str(attempt)]
    try:
        elastic_launch(config, sys.executable)(*arguments)
    except ChildFailedError as failed:
        code = failed.get_first_failure()[1].exitcode
        return code if code > 0 else _die_of(-code)
    except SignalException as stopped:
        return _die_of(stopped.sigval)
    return 0


def _die_of(number: int) -> int:
    """As the rank did, so that the launcher sees what a single trainer would have shown it."""
    if number != signal.SIGKILL:  # which nobody can handle
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number  # a signal that does not end a process


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ml.train.torchrun", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--attempt", type=int, help="default: the next number")
    parser.add_argument("--processes", type=int, required=True)
    options = parser.parse_args(arguments)
    run = RunDir(options.run_dir.resolve())
    if not run.path.is_dir():
        parser.error(f"there is no run directory {run.path}")
    attempt: int = options.attempt or run.next_attempt()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all on this machine, whatever its name
    faulthandler.register(signal.SIGUSR1, chain=False)
    inherited = os.environ.pop(LOCK_VARIABLE, None)
    try:
        lock = run.take_lock(attempt, int(inherited) if inherited else None)
    except LockHeld:
        print(f"{run.path}: {SENTENCES['already_running']}", file=sys.stderr)  # noqa: T201
        return EXIT_CODES["already_running"]
    try:
        return run_ranks(run, attempt, options.processes)
    finally:
        os.close(lock)


if __name__ == "__main__":
    sys.exit(main())
