"""The warm trainer: `python -P -m ml.train.warm SOCKET` imports what trainers need, and waits.

Asked for a training, it forks a launcher, which forks its trainer: both are what `ml.launch` and
`ml.train` would have become, but for the seconds of importing. It computes nothing itself: it
has no thread and no context on a GPU that a fork could not take along. What it is asked for and
cannot do exactly as a cold start would, it leaves undone.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn, Self

from ml import failpoints
from ml.appearance import appear_as
from ml.environment import MARKER, launcher_environment, trainer_environment
from ml.launch import Launcher, die_with_parent, own
from ml.rundir import LockHeld, RunDir

LIBRARIES = (
    "torch._dynamo",  # the first optimizer imports it
    "ml.train.__main__",
    "ml.train.recipes.network",
    "ml.train.recipes.features",
    "ml.train.recipes.causal",
    "ml.train.recipes.classify",
    "ml.train.recipes.text2text",
)
LATE = {MARKER, "CUDA_VISIBLE_DEVICES", "HF_TOKEN", failpoints.SWITCH, failpoints.PLAN}
"""Variables that are read after the imports, and may differ from training to training."""
OWN = "MLSERVER_"
"""How variables begin that only say whose process this is."""
ROOM = 8192
READ_SECONDS = 1.0
MOST_BYTES = 2**16
COMMAND = (sys.executable, "-P", "-m", "ml.train.warm")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM)


@dataclass(frozen=True)
class Request:
    run: RunDir
    attempt: int
    environment: dict[str, str]
    """The launcher's."""

    @classmethod
    def read(cls, connection: socket.socket) -> Self:
        """One line of JSON. Raises ValueError, OSError."""
        connection.settimeout(READ_SECONDS)
        with connection.makefile("rb") as stream:
            asked = json.loads(stream.readline(MOST_BYTES))
        return cls(RunDir(Path(asked["run"])), int(asked["attempt"]), dict(asked["environment"]))


class WarmLauncher(Launcher):
    def _start(self) -> int:
        """The trainer is forked: this process has imported what it needs."""
        # Neither side may answer a signal in the other's name.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        launcher = os.getpid()
        pid = os.fork()
        if pid == 0:
            _end_with(partial(self._train, launcher))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return pid

    def _train(self, launcher: int) -> int:
        import numpy as np

        from ml.train.__main__ import main

        die_with_parent(launcher)()
        os.setsid()
        with self._logs() as (out, err):
            redirect(out.fileno(), err.fileno())
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        command = self._command()
        become(command, self._environment())
        np.random.seed()  # as new as in a new process
        return main(command[command.index("-m") + 2 :])


def serve(listener: socket.socket, environment: Mapping[str, str]) -> NoReturn:
    """Fork a launcher for each request that suits the `environment` of the imports."""
    while True:
        connection, _ = listener.accept()
        with connection:
            try:
                request = Request.read(connection)
            except (OSError, ValueError, KeyError, TypeError):
                continue  # whoever asked starts cold
            wanted = trainer_environment(request.environment)
            if _lasting(wanted) == _lasting(environment) and os.fork() == 0:
                listener.close()
                _end_with(partial(launch, request, connection))


def _lasting(environment: Mapping[str, str]) -> dict[str, str]:
    """What libraries may have read at their import."""
    return {
        name: value
        for name, value in environment.items()
        if name not in LATE and not name.startswith(OWN)
    }


def launch(request: Request, asked_by: socket.socket) -> int:
    """In the fork: become the launcher, tell that the run is owned, and go on as ml.launch does."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.chdir(request.run.path)
    with (request.run.path / "launcher.log").open("ab") as log:
        redirect(log.fileno(), log.fileno())
    command = [sys.executable, "-P", "-m", "ml.launch", str(request.run.path)]
    become([*command, "--attempt", str(request.attempt)], request.environment)
    try:
        lock = own(request.run, request.attempt)
    except LockHeld:
        return 0  # a cold start was quicker
    # Fails where nobody waits any more: then a cold start has been made, and may be over.
    asked_by.sendall(b"1")
    asked_by.close()
    return WarmLauncher(request.run, request.attempt, lock).launch()


def become(command: list[str], environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    appear_as(command, environment)


def redirect(out: int, err: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, number in ((nothing, 0), (out, 1), (err, 2)):
        os.dup2(descriptor, number)
    os.close(nothing)


def _end_with(work: Callable[[], int]) -> NoReturn:
    """Nothing of this process's beginnings is to run again in a fork."""
    code = 1
    try:
        code = work()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    # The edge: as the interpreter does at the end of a program.
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def warm_up() -> None:
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # the collector leaves alone what forks share


def listen(path: Path) -> socket.socket:
    """For this user alone. The name is relative to its folder: a path may be too long."""
    os.chdir(path.parent)
    Path(path.name).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        listener.bind(path.name)
    finally:
        os.umask(before)
    listener.listen()
    return listener


def main(arguments: list[str] | None = None) -> NoReturn:
    parser = argparse.ArgumentParser(prog="python -P -m ml.train.warm", description=__doc__)
    parser.add_argument("socket", type=Path)
    parser.add_argument("room", nargs="?", help="given by itself: room for longer command lines")
    options = parser.parse_args(arguments)
    if options.room is None:
        start_again(options.socket)
    become([*COMMAND, str(options.socket)], {**os.environ, "MLSERVER_ROOM": ""})
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # launchers are nobody's to wait for
    environment = dict(os.environ)  # libraries change it
    warm_up()
    serve(listen(options.socket), environment)


def start_again(path: Path) -> NoReturn:
    """In the environment of trainers, before anything is imported in the server's."""
    marks = {name: value for name, value in os.environ.items() if name.startswith(OWN)}
    environment = {
        **trainer_environment(launcher_environment(os.environ, session="")),
        **marks,
        "MLSERVER_ROOM": "." * ROOM,
    }
    os.execve(sys.executable, [*COMMAND, str(path), "." * ROOM], environment)  # noqa: S606


if __name__ == "__main__":
    main()
