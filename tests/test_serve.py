"""`manage.py serve` as a person starts it: real processes, real signals, a database of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from mlserver.supervisor import MARKER
from tests.servers import ROOT, environment, free_port, kill, manage, run_django
from tests.waiting import PATIENCE_SECONDS, has_ended, wait_until

MAKE_KEY = (
    "import json\n"
    "from accounts.services import create_first_admin\n"
    "print(json.dumps(create_first_admin()[2]))"
)
STOPPED_WITHIN_SECONDS = 60  # a hang is a failure; how quick it is, is for benchmarks


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A migrated var folder with an admin's key, to be copied."""
    folder = tmp_path_factory.mktemp("prepared")
    env = environment(folder)
    manage("migrate", "--verbosity", "0", env=env)
    return folder, run_django(MAKE_KEY, env)


class Serve:
    """One `manage.py serve` on one var folder."""

    def __init__(self, var_dir: Path, key: str) -> None:
        self.var_dir = var_dir
        self.headers = {"Authorization": f"Bearer {key}"}
        self.env = environment(var_dir)
        self.log = var_dir / "serve.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.log.touch()

    def start(self, *options: str, port: int | None = None) -> subprocess.Popen[bytes]:
        port = port or free_port()
        self.url = f"http://127.0.0.1:{port}"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "serve", "--port", str(port), *options],
                cwd=ROOT,
                env=self.env,
                stdout=log,
                stderr=log,
            )
        return self.process

    def wait_until_ready(self) -> None:
        wait_until(lambda: "is ready" in self.log.read_text(), self.log.read_text)
        wait_until(
            lambda: self.health().get("status") in ("healthy", "degraded"), self.log.read_text
        )

    def health(self) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = httpx.get(f"{self.url}/health", timeout=5).json()
        except httpx.TransportError:
            return {}
        return answer

    def services(self) -> list[psutil.Process]:
        """Everything that bears our marker; neither serve itself nor a training."""
        return [p for p in psutil.process_iter() if marker_of(p) == str(self.var_dir)]

    def leaders(self, word: str) -> set[int]:
        """The heads of the process groups whose command has this word."""
        return {
            process.pid
            for process in self.services()
            if leads_its_group(process) and word in command_of(process)
        }

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(STOPPED_WITHIN_SECONDS)


def leads_its_group(process: psutil.Process) -> bool:
    try:
        return bool(os.getpgid(process.pid) == process.pid)
    except ProcessLookupError:  # it ended since it was listed
        return False


def command_of(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:  # gone, or a zombie
        return []


def marker_of(process: psutil.Process) -> str | None:
    try:
        marker: str | None = process.environ().get(MARKER)
    except (psutil.Error, OSError):
        return None
    return marker


@pytest.fixture
def serve(prepared: tuple[Path, str], tmp_path: Path) -> Iterator[Serve]:
    folder = tmp_path / "var"
    shutil.copytree(prepared[0], folder)
    subject = Serve(folder, prepared[1])
    yield subject
    if subject.process is not None and subject.process.poll() is None:
        subject.process.kill()
        subject.process.wait()
    # Again until nobody is left: who was about to start another one has done so meanwhile.
    while left := [process for process in subject.services() if not has_ended(process)]:
        kill(left)


def test_one_command_starts_everything_and_one_signal_ends_it_with_a_stream_open(
    serve: Serve,
) -> None:
    serve.start()
    serve.wait_until_ready()
    text = serve.log.read_text()
    assert f"address  {serve.url}" in text
    assert f"docs     {serve.url}/docs" in text
    assert "GPU      " in text
    address = f"{serve.url}/stream/?topics=system"
    with httpx.stream("GET", address, headers=serve.headers, timeout=20) as response:
        lines = response.iter_lines()
        assert any(line == "event: sample" for line in lines)
        assert serve.stop(signal.SIGINT) == 0
    assert serve.services() == []
    assert serve.log.read_text().endswith("Stopped.\n")
    assert "Cancel" not in serve.log.read_text()  # uvicorn's word for a stream that had to be cut


def test_whatever_is_killed_comes_back(serve: Serve) -> None:
    serve.start()
    serve.wait_until_ready()
    before = {
        word: serve.leaders(word)
        for word in ("uvicorn", "run_sampler", "run_inference", "qcluster")
    }
    assert {word: len(pids) for word, pids in before.items()} == {
        "uvicorn": 1,
        "run_sampler": 1,
        "run_inference": 1,
        "qcluster": 2,
    }
    for pid in set.union(*before.values()):
        os.kill(pid, signal.SIGKILL)

    def are_back() -> bool:
        return all(
            len(serve.leaders(word) - killed) == len(killed) for word, killed in before.items()
        )

    wait_until(are_back, serve.log.read_text)
    serve.wait_until_ready()
    assert "was ended by SIGKILL" in serve.log.read_text()


def test_a_second_server_on_the_same_folder_is_refused(serve: Serve) -> None:
    serve.start()
    pid_file = serve.var_dir / "serve.pid"
    wait_until(lambda: pid_file.exists() and pid_file.read_text(), serve.log.read_text)
    refused = subprocess.run(
        [sys.executable, "manage.py", "serve", "--port", str(free_port())],
        cwd=ROOT,
        env=serve.env,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert refused.returncode == 1
    assert serve.process is not None
    assert f"A server already runs on {serve.var_dir} (process {serve.process.pid})" in (
        refused.stderr
    )


def test_a_killed_server_takes_its_services_along_and_the_next_start_finds_a_free_house(
    serve: Serve,
) -> None:
    process = serve.start()
    serve.wait_until_ready()
    port = int(serve.url.rpartition(":")[2])
    frozen = psutil.Process(serve.leaders("qcluster").pop())
    os.killpg(frozen.pid, signal.SIGSTOP)  # this one will not hear of it
    process.kill()
    process.wait()
    serve.start(port=port)
    # Not the answer of the old web process, which may still be on its way out.
    wait_until(lambda: has_ended(frozen), serve.log.read_text)
    serve.wait_until_ready()
    assert serve.stop() == 0


def test_a_database_that_is_not_up_to_date_is_a_sentence(tmp_path: Path) -> None:
    subject = Serve(tmp_path, "no key")
    process = subject.start()
    assert process.wait(PATIENCE_SECONDS) == 1
    assert "run 'manage.py migrate' first" in subject.log.read_text()


def test_a_port_in_use_is_a_sentence(serve: Serve) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = serve.start(port=taken.getsockname()[1])
        assert process.wait(PATIENCE_SECONDS) == 1
    assert "is already in use; choose another with --port" in serve.log.read_text()


def test_a_second_sampler_is_refused(serve: Serve) -> None:
    command = [sys.executable, "manage.py", "run_sampler"]
    first = subprocess.Popen(command, cwd=ROOT, env=serve.env)
    try:
        pid_file = serve.var_dir / "sampler.pid"
        wait_until(lambda: pid_file.exists() and pid_file.read_text(), serve.log.read_text)
        second = subprocess.run(
            command,
            cwd=ROOT,
            env=serve.env,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
        assert second.returncode == 1
        assert f"A sampler already runs (process {first.pid})" in second.stderr
    finally:
        first.terminate()
        assert first.wait(20) == 0
