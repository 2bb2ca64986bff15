"""The torch-free parent of one trainer: owns the run, adopts its orphans, writes how it ended.

Run it as `python -P -m ml.launch RUN_DIR --attempt N`. It knows nothing of training.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

import psutil

from ml import failpoints
from ml.environment import FOLDER_MARKER, LOCK_VARIABLE, MARKER, trainer_environment
from ml.exits import EXIT_CODES, SENTENCES, explain_exit, explain_signal
from ml.rundir import LockHeld, RunDir, now, read_json, write_json

GENTLE_SECONDS = 3

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
# Loaded before any fork: a child between fork and exec should only make system calls.
LIBC = ctypes.CDLL(None, use_errno=True)


class Launcher:
    def __init__(self, run: RunDir, attempt: int, lock: int) -> None:
        self.run = run
        self.attempt = attempt
        self.lock = lock
        self.session = session_of(run)
        self.trainer: int | None = None
        """Its process id, once there is one."""
        self.stopped_by: int | None = None

    def launch(self) -> int:
        """Start the trainer, wait for it, leave nothing behind; returns an exit code."""
        become_subreaper()
        self._clear_earlier_attempts()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGALRM, self._insist)
        self.trainer = self._start()
        failpoints.hit("launcher.after_start")
        if self.stopped_by is not None:  # it came before there was anything to stop
            self._stop(self.stopped_by, None)
        status, peak_bytes = self._wait()
        signal.alarm(0)
        # From here on a signal has nothing to stop, and exit.json must be written.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._end_leftovers()
        failpoints.hit("launcher.before_exit")
        self._write_exit(status, peak_bytes)
        failpoints.hit("launcher.after_exit")
        return status if status >= 0 else 128 - status

    def _clear_earlier_attempts(self) -> None:
        self._end_leftovers()  # torchrun's workers, say, of a launcher that was killed
        for path in (self.run.result_path, self.run.exit_path, self.run.beat_path):
            path.unlink(missing_ok=True)

    def _start(self) -> int:
        with self._logs() as (out, err):
            trainer = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=self.run.path,
                env=self._environment(),
                pass_fds=(self.lock,),
                # Ctrl-C at a terminal reaches the launcher alone, which then stops it gently.
                start_new_session=True,
                preexec_fn=die_with_parent(os.getpid()),
            )
        trainer.returncode = 0  # it is waited for below, together with its use of memory
        return trainer.pid

    @contextmanager
    def _logs(self) -> Iterator[tuple[BinaryIO, BinaryIO]]:
        folder = self.run.attempt_path(self.attempt)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "stdout.log").open("ab") as out, (folder / "stderr.log").open("ab") as err:
            yield out, err

    def _command(self) -> list[str]:
        command = [sys.executable, "-P", "-m", *trainer_of(self.run)]
        return [*command, "--attempt", str(self.attempt)]

    def _environment(self) -> dict[str, str]:
        return {
            **trainer_environment(os.environ),
            MARKER: self.session,
            FOLDER_MARKER: str(self.run.path),
            LOCK_VARIABLE: str(self.lock),
        }

    def _wait(self) -> tuple[int, int]:
        """Status (negative: a signal) and peak memory in bytes; adopted orphans are reaped."""
        while True:
            pid, status, usage = os.wait4(-1, 0)
            if pid == self.trainer:
                return os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopped_by = number
        if self.trainer is not None:
            self._signal_tree(signal.SIGTERM)
            if not signal.getitimer(signal.ITIMER_REAL)[0]:  # asked again, the deadline stands
                signal.alarm(GENTLE_SECONDS)

    def _insist(self, number: int, frame: FrameType | None) -> None:
        self._signal_tree(signal.SIGKILL)

    def _signal_tree(self, number: int) -> None:
        for process in psutil.Process().children(recursive=True):
            _send(process, number)

    def _end_leftovers(self) -> None:
        """Kill what still carries this run's marker; torchrun's workers leave the process tree."""
        for process in marked_processes(self.run.path):
            _send(process, signal.SIGKILL)
        while _reap():
            pass

    def _write_exit(self, status: int, peak_bytes: int) -> None:
        reason, sentence = explain_signal(-status) if status < 0 else explain_exit(status)
        if self.stopped_by is not None and status < 0:
            name = signal.Signals(self.stopped_by).name
            reason, sentence = "killed", f"Stopped, because its launcher received {name}."
        write_json(
            self.run.exit_path,
            {
                "attempt": self.attempt,
                "pid": self.trainer,
                "exit_code": status if status >= 0 else None,
                "signal": -status if status < 0 else None,
                "reason": reason,
                "sentence": sentence,
                "max_rss_bytes": peak_bytes,
                "ended_at": now(),
            },
        )


def session_of(run: RunDir) -> str:
    """The id in config.json, else the name of the folder; the trainer complains of the rest."""
    try:
        config: dict[str, Any] = read_json(run.config_path) or {}
    except (OSError, ValueError):
        config = {}
    session = config.get("session")
    return session if isinstance(session, str) and session else run.path.name


def trainer_of(run: RunDir) -> list[str]:
    """The module to run and its arguments: torchrun where several processes share the training."""
    try:
        processes = (read_json(run.config_path) or {}).get("num_processes", 1)
    except (OSError, ValueError):
        processes = 1
    if not isinstance(processes, int) or processes < 2:
        return ["ml.train", str(run.path)]
    return ["ml.train.torchrun", str(run.path), "--processes", str(processes)]


def marked_processes(folder: Path) -> list[psutil.Process]:
    """Processes with this run's folder in their environment, except this one and its parents."""
    me = psutil.Process()
    spared = {me.pid, *(parent.pid for parent in me.parents())}
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid not in spared and process.environ().get(FOLDER_MARKER) == str(folder):
                found.append(process)
        except (psutil.Error, OSError):  # gone meanwhile, a zombie, or somebody else's
            continue
    return found


def become_subreaper() -> None:
    """Orphans of the trainer become children of this process instead of init's."""
    if LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def die_with_parent(parent: int) -> Callable[[], None]:
    """What a child runs before exec, so that it cannot outlive a launcher killed by SIGKILL."""

    def before_exec() -> None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the call above
            os._exit(EXIT_CODES["lost_lease"])

    return before_exec


def _send(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.Error:  # already gone
        return


def _reap() -> bool:
    """Collect one dead child; False when none is left, or none dead."""
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -P -m ml.launch", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--attempt", type=int, required=True)
    options = parser.parse_args(arguments)
    run = RunDir(options.run_dir.resolve())
    if not run.path.is_dir():
        parser.error(f"there is no run directory {run.path}")
    try:
        lock = own(run, options.attempt)
    except LockHeld:
        print(f"{run.path}: {SENTENCES['already_running']}", file=sys.stderr)  # noqa: T201
        return EXIT_CODES["already_running"]
    return Launcher(run, options.attempt, lock).launch()


def own(run: RunDir, attempt: int) -> int:
    """The run's lock, for a launcher. Raises LockHeld."""
    failpoints.hit("launcher.before_lock")
    lock = run.take_lock(attempt)
    failpoints.hit("launcher.after_lock")
    return lock


if __name__ == "__main__":
    sys.exit(main())
