import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ml.hardware.processes import ProcessReader, short_command


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A child whose secret argument must not be shown, with the mark of a run."""
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)", "--secret=x"]
    environment = {**os.environ, "MLSERVER_RUN": "train_1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


def test_it_sees_a_child_with_its_mark_and_its_parent(child: subprocess.Popen[bytes]) -> None:
    found = ProcessReader().read()[child.pid]
    assert found.run == "train_1"
    assert found.parent_pid == os.getpid()
    assert found.command.endswith("-c")
    assert found.memory_bytes > 1 << 20
    assert found.cpu_percent is None
    assert abs(found.started_at - time.time()) < 60


def test_the_load_is_the_difference_of_two_looks() -> None:
    clock = Clock()
    reader = ProcessReader(clock=clock)
    reader.read()
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    clock.now += 1
    load = reader.read()[os.getpid()].cpu_percent
    assert load is not None
    assert load >= 4


def test_a_name_with_parentheses_is_read(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("cpu 1 2\nbtime 1700000000\n")
    folder = tmp_path / "42"
    folder.mkdir()
    numbers = " ".join(["7", *["0"] * 9, "250", "50", *["0"] * 6, "1", "100", "3"])
    (folder / "stat").write_text(f"42 (a) b) S {numbers} 0 0\n")
    (folder / "comm").write_text("a) b\n")
    found = ProcessReader(tmp_path).read()[42]
    assert found.parent_pid == 7
    assert found.command == "a) b"
    assert found.memory_bytes == 3 * os.sysconf("SC_PAGE_SIZE")
    assert found.run == ""


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["/usr/bin/python3.11", "-P", "-m", "ml.train", "/var/run/x"], "python3.11 -m ml.train"),
        (["python", "manage.py", "qcluster", "--key=x"], "python manage.py qcluster"),
        (["python", "/srv/train.py", "--token=x"], "python train.py"),
        (["python", "-c", "print('secret')"], "python -c"),
        (["/usr/bin/ollama", "serve", "--password", "x"], "ollama"),
        ([], ""),
    ],
)
def test_a_command_is_shown_without_its_arguments(arguments: list[str], shown: str) -> None:
    assert short_command(arguments) == shown
