"""The supervisor with real, tiny processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlserver.supervisor import MARKER, Service, Supervisor, explain_exit
from tests.waiting import has_ended, wait_until

SLEEP = "import time; time.sleep(600)"
# A leader with a child in its group; both write who they are.
FAMILY = (
    "import os, subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "open('family', 'w').write(f'{os.getpid()} {child.pid}')\n"
    "time.sleep(600)"
)
STUBBORN = (
    "import signal, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "open('deaf', 'w').close()\n"
    "time.sleep(600)"
)
PARENT = (
    "import sys, time, pathlib\n"
    "from mlserver.supervisor import Service, Supervisor\n"
    "here = pathlib.Path(sys.argv[1])\n"
    "service = Service(name='one', command=[sys.executable, '-c', sys.argv[2]])\n"
    "supervisor = Supervisor([service], directory=here, marker=str(here))\n"
    "supervisor.start()\n"
    "(here / 'pid').write_text(str(supervisor.children['one'].process.pid))\n"
    "time.sleep(600)"
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def python(code: str, name: str = "one", silent_seconds: float | None = None) -> Service:
    return Service(name=name, command=[sys.executable, "-c", code], silent_seconds=silent_seconds)


Start = Callable[..., Supervisor]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    supervisors = []

    def make(*services: Service, clock: Callable[[], float] = time.monotonic) -> Supervisor:
        supervisor = Supervisor(services, directory=tmp_path, marker=str(tmp_path), clock=clock)
        supervisors.append(supervisor)
        supervisor.start()
        return supervisor

    yield make
    for supervisor in supervisors:
        supervisor.finish(supervisor.children, 0)


def pid_of(supervisor: Supervisor, name: str = "one") -> int:
    process = supervisor.children[name].process
    assert process is not None
    return process.pid


def family(tmp_path: Path) -> list[int]:
    """Leader and child, as soon as both are there."""
    path = tmp_path / "family"
    wait_until(lambda: path.exists() and len(path.read_text().split()) == 2)
    return [int(pid) for pid in path.read_text().split()]


def test_it_replaces_what_died_after_a_pause(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    supervisor = start(python(SLEEP), clock=clock)
    first = pid_of(supervisor)
    os.kill(first, signal.SIGKILL)
    wait_until(supervisor.children["one"].has_ended)
    supervisor.tick()
    supervisor.tick()
    assert supervisor.children["one"].process is None
    assert "one was ended by SIGKILL: perhaps the kernel's out-of-memory killer" in caplog.text
    clock.now += 5
    supervisor.tick()
    assert pid_of(supervisor) != first


def test_an_end_without_error_is_replaced_too(start: Start) -> None:
    clock = Clock()
    supervisor = start(python("pass"), clock=clock)
    first = pid_of(supervisor)
    wait_until(supervisor.children["one"].has_ended)
    supervisor.tick()
    clock.now += 5
    supervisor.tick()
    assert pid_of(supervisor) != first


def test_the_pause_grows_with_each_failure_and_a_long_life_forgives(start: Start) -> None:
    clock = Clock()
    supervisor = start(python("raise SystemExit(3)"), clock=clock)
    child = supervisor.children["one"]
    pauses = []
    for _ in range(3):
        wait_until(child.has_ended)
        supervisor.tick()
        pauses.append(child.restart_at - clock.now)
        clock.now = child.restart_at
        supervisor.tick()
    assert pauses == [1, 2, 4]
    wait_until(child.has_ended)
    clock.now += 61
    supervisor.tick()
    assert child.restart_at - clock.now == 0.5


def test_the_whole_group_goes_when_its_leader_died(start: Start, tmp_path: Path) -> None:
    supervisor = start(python(FAMILY))
    leader, member = family(tmp_path)
    os.kill(leader, signal.SIGKILL)
    wait_until(supervisor.children["one"].has_ended)
    assert not has_ended(member)
    supervisor.tick()
    wait_until(lambda: has_ended(member))


def test_who_is_silent_is_replaced_with_its_whole_group(start: Start, tmp_path: Path) -> None:
    clock = Clock()
    supervisor = start(python(FAMILY, silent_seconds=45), clock=clock)
    pids = family(tmp_path)
    clock.now += 40
    supervisor.report_sign("one")
    clock.now += 44
    supervisor.tick()
    assert not any(map(has_ended, pids))
    clock.now += 2
    supervisor.tick()
    wait_until(lambda: all(map(has_ended, pids)))
    clock.now += 1
    supervisor.tick()
    assert pid_of(supervisor) not in pids


def test_who_does_not_listen_is_killed_when_its_time_is_over(start: Start, tmp_path: Path) -> None:
    supervisor = start(python(STUBBORN))
    pid = pid_of(supervisor)
    wait_until((tmp_path / "deaf").exists)
    supervisor.ask_to_stop(["one"])
    supervisor.finish(["one"], 0.3)
    assert has_ended(pid)


def test_others_are_left_alone_when_some_are_stopped(start: Start) -> None:
    supervisor = start(python(SLEEP), python(SLEEP, "two"))
    supervisor.ask_to_stop(["one"])
    supervisor.finish(["one"], 5)
    assert supervisor.children["one"].process is None
    assert not has_ended(pid_of(supervisor, "two"))


def start_parent(tmp_path: Path, code: str) -> tuple[subprocess.Popen[bytes], int]:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path), code])
    path = tmp_path / "pid"
    wait_until(lambda: path.exists() and path.read_text())
    return parent, int(path.read_text())


def test_children_are_asked_to_stop_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    parent, child = start_parent(tmp_path, SLEEP)
    parent.kill()
    parent.wait()
    wait_until(lambda: has_ended(child))


def test_what_a_killed_supervisor_left_is_found_and_ended(tmp_path: Path, start: Start) -> None:
    parent, deaf = start_parent(tmp_path, STUBBORN)
    wait_until((tmp_path / "deaf").exists)
    parent.kill()
    parent.wait()
    stranger = subprocess.Popen(
        [sys.executable, "-c", SLEEP], env={**os.environ, MARKER: "/somewhere/else"}
    )
    try:
        assert not has_ended(deaf)
        assert start().kill_leftovers() == 1
        assert has_ended(deaf)
        assert not has_ended(stranger.pid)
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (0, "web ended with exit code 0"),
        (-11, "web was ended by SIGSEGV: a native library touched memory that is not its own"),
        (-signal.SIGUSR1, "web was ended by SIGUSR1"),
        (-40, "web was ended by signal 40"),
    ],
)
def test_an_exit_status_becomes_a_sentence(code: int, sentence: str) -> None:
    assert explain_exit("web", code) == sentence


def test_it_can_be_read_in_one_sitting() -> None:
    module = sys.modules[Supervisor.__module__]
    assert module.__file__
    assert len(Path(module.__file__).read_text().splitlines()) <= 200
