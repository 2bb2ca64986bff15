"""The real server in a thread and Debian's Chromium in front of it."""

from __future__ import annotations

import gc
import os
import shutil
import threading
from asyncio import _get_running_loop, _set_running_loop
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

# Playwright's loop lives in the test's thread, where Django would refuse to touch the database.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"

import pytest
import uvicorn
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect

from monitoring import services
from tests.servers import free_port
from tests.waiting import wait_until

# Generous: how quick a machine is decides no test.
expect.set_options(timeout=60_000)

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if shutil.which(CHROMIUM) or os.environ.get("REQUIRE_BROWSER"):
        return
    skip = pytest.mark.skip(reason=f"no Chromium at {CHROMIUM}: apt-get install chromium")
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    return {"executable_path": CHROMIUM, "args": FLAGS}


@pytest.fixture(scope="session")
def browser(browser: Browser) -> Iterator[Browser]:
    """Its end may come after a test that Playwright's loop was hidden from."""
    loop = _get_running_loop()
    yield browser
    _set_running_loop(loop)


@pytest.fixture(autouse=True)
def _patient_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sampler runs here: what a scene has written stays new for longer than a page may take."""
    for name in ("STALE", "PROCESSES_STALE"):
        monkeypatch.setattr(services, name, timedelta(minutes=4))


class Server:
    """uvicorn on a port of its own; may be stopped and started again on the same one."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        from mlserver.asgi import application

        config = uvicorn.Config(
            application,
            port=self.port,
            log_level="error",
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        self._uvicorn = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._uvicorn.run, daemon=True)
        self._thread.start()
        wait_until(lambda: self._uvicorn.started)

    def stop(self) -> None:
        self._uvicorn.should_exit = True
        wait_until(lambda: not self._thread.is_alive())


@pytest.fixture
def server(transactional_db: None) -> Iterator[Server]:
    running = Server()
    running.start()
    yield running
    running.stop()
    gc.collect()  # what the server left complains here, not in somebody else's test


class Visit:
    """One browser window of one person, and everything that went wrong in it."""

    def __init__(self, context: BrowserContext, server: Server) -> None:
        self.server = server
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.requests: list[Request] = []
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request))
        self.page.on("requestfailed", self._on_failure)

    def open(self, path: str) -> Page:
        self.requests.clear()
        answer = self.page.goto(self.server.url + path)
        assert answer is not None
        assert answer.status == 200, f"{path}: {answer.status}"
        return self.page

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.text} {message.location.get('url')}")

    def _on_failure(self, request: Request) -> None:
        # A page that is left takes its open requests with it.
        if "ERR_ABORTED" not in (request.failure or ""):
            self.complaints.append(f"{request.url}: {request.failure}")


@pytest.fixture
def visit(server: Server, browser: Browser) -> Iterator[Callable[..., Visit]]:
    """`visit(user, **context options)`: a signed-in window; without a user an anonymous one."""
    contexts: list[BrowserContext] = []

    def open_window(user: User | None = None, **options: Any) -> Visit:
        context = browser.new_context(
            viewport={"width": 1280, "height": 860} | options.pop("viewport", {}), **options
        )
        contexts.append(context)
        if user is not None:
            context.add_cookies([{"name": "sessionid", "value": _sign_in(user), "url": server.url}])
        return Visit(context, server)

    yield open_window
    for context in contexts:
        context.close()


def _sign_in(user: User) -> str:
    client = Client()
    client.force_login(user)
    return str(client.cookies["sessionid"].value)
