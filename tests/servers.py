"""Real servers for tests: a database of one's own, Django in a child, the whole server."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.waiting import PATIENCE_SECONDS, wait_until

ROOT = Path(__file__).resolve().parent.parent
POSTGRES = "postgres://postgres@127.0.0.1:5432/"
SETUP = "import django; django.setup()\n"


def free_port() -> int:
    """One that nobody else is given for a minute: a closed connection rests there (TIME_WAIT),
    which a server does not mind."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address), server.accept()[0]:
            return int(address[1])


def postgres_answers() -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", 5432)) == 0


@contextmanager
def postgres_database() -> Iterator[str]:
    """The URL of a new, empty database; dropped afterwards."""
    import psycopg

    name = f"mlserver_{secrets.token_hex(6)}"
    with psycopg.connect(f"{POSTGRES}postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield POSTGRES + name
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def environment(var_dir: Path, **more: str) -> dict[str, str]:
    """A server's environment of its own; nothing of the test run's Django."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {
        **kept,
        "VAR_DIR": str(var_dir),
        "DJANGO_SETTINGS_MODULE": "mlserver.settings",
        "SECRET_KEY": "only-for-tests-" + "x" * 50,
        "LOG_LEVEL": "WARNING",
        "WARM_TRAINER": "0",  # seconds of importing for each server
        "RATE_LIMIT_ENABLED": "0",  # waiting for a state asks more often than people do
        **more,
    }


def start_django(code: str, env: dict[str, str]) -> subprocess.Popen[str]:
    """Python code in a process of its own, after django.setup()."""
    return subprocess.Popen(
        [sys.executable, "-c", SETUP + code], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True
    )


def run_django(code: str, env: dict[str, str]) -> Any:
    """What the code prints last, as JSON."""
    process = start_django(code, env)
    out, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0
    return json.loads(out.splitlines()[-1]) if out.strip() else None


def manage(*arguments: str, env: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=env,
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    return done.stdout


@dataclass
class Stack:
    """A running `manage.py serve` with everything behind it."""

    url: str
    key: str
    var_dir: Path
    env: dict[str, str]
    process: subprocess.Popen[bytes]

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=120
        )

    def wait_for(
        self, session_id: str, *states: str, seconds: float = PATIENCE_SECONDS
    ) -> dict[str, Any]:
        """The session, as soon as it is in one of these states."""
        with self.client() as client:
            ask = partial(client.get, f"/api/v1/sessions/{session_id}")

            def look() -> dict[str, Any] | None:
                session: dict[str, Any] = ask().json()
                return session if session["state"] in states else None

            return wait_until(look, lambda: ask().json(), seconds)

    def processes(self, *words: str) -> list[psutil.Process]:
        """Processes of this server whose command line has all these words."""
        marker = str(self.var_dir)
        return [
            process
            for process in psutil.process_iter()
            if _belongs(process, marker) and all(word in _command(process) for word in words)
        ]


def _belongs(process: psutil.Process, marker: str) -> bool:
    try:
        return marker in _command(process) or process.environ().get("VAR_DIR") == marker
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""


@contextmanager
def serving(var_dir: Path, **more: str) -> Iterator[Stack]:
    """A fresh server: migrated, with an admin key and the built-in datasets; ended afterwards."""
    env, key = prepare(var_dir, **more)
    port = free_port()
    stack = Stack(f"http://127.0.0.1:{port}", key, var_dir, env, start_server(port, env))
    try:
        wait_until_ready(stack)
        yield stack
    finally:
        stack.process.send_signal(signal.SIGTERM)
        try:
            stack.process.wait(PATIENCE_SECONDS)
        finally:
            kill(stack.processes())


@contextmanager
def serving_web(var_dir: Path, **more: str) -> Iterator[Stack]:
    """Only the web server of such a one: what is started there waits for ever."""
    env, key = prepare(var_dir, **more)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "mlserver.asgi:application", "--port", str(port)]
    command += ["--http", "mlserver.connections:Connection", "--log-level", "error"]
    process = subprocess.Popen(command, cwd=ROOT, env=env)
    stack = Stack(f"http://127.0.0.1:{port}", key, var_dir, env, process)
    try:
        wait_until_ready(stack, "/health/live")
        yield stack
    finally:
        process.kill()
        process.wait()


def prepare(var_dir: Path, **more: str) -> tuple[dict[str, str], str]:
    """The environment and an admin key of a server with a migrated database and datasets."""
    env = environment(var_dir, **more)
    manage("migrate", "--verbosity", "0", env=env)
    key: str = run_django(
        "import json\n"
        "from accounts.services import create_first_admin\n"
        "from datasets.services import register_builtin\n"
        "made = create_first_admin()\n"
        "for name in ('digits', 'iris', 'diabetes'):\n"
        "    register_builtin(name)\n"
        "print(json.dumps(made[2]))",
        env,
    )
    return env, key


def start_server(port: int, env: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "manage.py", "serve", "--port", str(port)]
    return subprocess.Popen(command, cwd=ROOT, env=env)


def wait_until_ready(stack: Stack, path: str = "/health/ready") -> None:
    def is_ready() -> bool:
        assert stack.process.poll() is None, "the server ended before it was ready"
        return answers(stack.url + path)

    wait_until(is_ready)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False  # it does not listen yet


def kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # it died with the one before
            process.kill()
