"""Starts services, each in its own process group, watches them, and replaces what dies.

Knows nothing of what they do. A service counts as silent when nobody reported a sign of
life of it for a while; then its whole process group is killed and started again.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from ml.exits import SIGNALS

logger = logging.getLogger(__name__)

MARKER = "MLSERVER_SERVICE"
PR_SET_PDEATHSIG = 1
LONGEST_PAUSE_SECONDS = 30.0
# Opened here: between fork and exec, opening a library may wait for a lock for ever.
LIBC = ctypes.CDLL(None)
ROUNDS = 5  # of ending leftovers: who was about to start another one has done so meanwhile
STEADY_SECONDS = 60.0  # whoever ran that long may be restarted at once again


@dataclass(frozen=True, kw_only=True)
class Service:
    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    silent_seconds: float | None = None
    """Without a sign of life for so long it is replaced; None: only when it dies."""
    delay_seconds: float = 0.0
    """Started so much later than the others, which it would keep from the CPUs."""


@dataclass
class Child:
    service: Service
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    sign_at: float = 0.0
    failures: int = 0
    restart_at: float = 0.0

    @property
    def name(self) -> str:
        return self.service.name

    def has_ended(self) -> bool:
        return self.process is None or self.process.poll() is not None


class Supervisor:
    """`marker` is in the environment of everything it starts, so leftovers can be found."""

    def __init__(
        self,
        services: Iterable[Service],
        *,
        directory: Path,
        marker: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.children = {service.name: Child(service) for service in services}
        self._directory = directory
        self._marker = marker
        self._clock = clock

    def start(self) -> None:
        for child in self.children.values():
            child.restart_at = self._clock() + child.service.delay_seconds
        self.tick()

    def tick(self) -> None:
        """One look at every child: replace the dead and the silent."""
        for child in self.children.values():
            self._look_at(child)

    def report_sign(self, name: str) -> None:
        self.children[name].sign_at = self._clock()

    def ask_to_stop(self, names: Iterable[str]) -> None:
        for name in names:
            _signal_group(self.children[name].process, signal.SIGTERM)

    def finish(self, names: Iterable[str], within_seconds: float) -> None:
        """Wait for these to end; what is left then, their own children too, is killed."""
        children = [self.children[name] for name in names]
        ends_at = time.monotonic() + within_seconds
        while time.monotonic() < ends_at and not all(child.has_ended() for child in children):
            time.sleep(0.05)
        for child in children:
            _kill_group(child.process)
            child.process = None

    def _look_at(self, child: Child) -> None:
        now = self._clock()
        if child.process is None:
            if now >= child.restart_at:
                self._start(child)
        elif (code := child.process.poll()) is not None:
            self._replace(child, explain_exit(child.name, code))
        elif child.service.silent_seconds is not None:
            silence = now - max(child.sign_at, child.started_at)
            if silence > child.service.silent_seconds:
                self._replace(child, f"{child.name} gave no sign of life for {silence:.0f} s")

    def _replace(self, child: Child, why: str) -> None:
        # The group, always: when a leader dies its children go on, holding ports and locks.
        _kill_group(child.process)
        child.process = None
        now = self._clock()
        child.failures = 0 if now - child.started_at > STEADY_SECONDS else child.failures + 1
        pause = min(LONGEST_PAUSE_SECONDS, 0.5 * 2 ** min(child.failures, 10))
        child.restart_at = now + pause
        logger.error("%s; starting it again in %.1f s", why, pause)

    def _start(self, child: Child) -> None:
        parent = os.getpid()
        child.process = subprocess.Popen(
            child.service.command,
            cwd=self._directory,
            env={**os.environ, **child.service.environment, MARKER: self._marker},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal reaches only us
            preexec_fn=lambda: _die_with(parent),
        )
        child.started_at = self._clock()

    def kill_leftovers(self) -> int:
        """End what a supervisor with our marker left when it was killed. Returns how many."""
        ended: set[psutil.Process] = set()
        for _ in range(ROUNDS):
            left = [process for process in psutil.process_iter() if self._is_left(process)]
            if not left:
                break
            for process in left:
                with suppress(psutil.NoSuchProcess):  # it died with the one before
                    process.kill()
            gone, _ = psutil.wait_procs(left, timeout=3)
            ended |= set(gone)
        return len(ended)

    def _is_left(self, process: psutil.Process) -> bool:
        try:
            marker = process.environ().get(MARKER)
        except (psutil.Error, OSError):  # gone meanwhile, or somebody else's
            return False
        return bool(marker == self._marker) and process.pid != os.getpid()


def explain_exit(name: str, code: int) -> str:
    if code >= 0:
        return f"{name} ended with exit code {code}"
    try:
        word = signal.Signals(-code).name
    except ValueError:  # a real-time signal has no name
        word = f"signal {-code}"
    hint = SIGNALS.get(word)
    return f"{name} was ended by {word}" + (f": {hint}" if hint else "")


def _signal_group(process: subprocess.Popen[bytes] | None, number: int) -> None:
    if process is None:
        return
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return  # nobody is left


def _kill_group(process: subprocess.Popen[bytes] | None) -> None:
    _signal_group(process, signal.SIGKILL)
    if process is not None:
        process.wait()


def _die_with(parent: int) -> None:
    """In the child, before exec: be asked to stop when our parent dies, however it dies."""
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before we could ask
            os._exit(1)
