"""Thousands of connections that ask nothing: whoever asks is answered, or told to come again."""

import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast
from weakref import ref

import httpx
import psutil
import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from mlserver.connections import SPARE_FILES
from mlserver.whole import WHOLE, Whole
from tests.servers import ROOT, free_port
from tests.waiting import wait_until

CROWD = 2_000
KEPT = 300

SERVER = """
import asyncio, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]),) * 2)
import uvicorn
from mlserver import connections
from mlserver.whole import WHOLE
connections.HEAD_SECONDS, connections.LOOK_SECONDS = float(sys.argv[3]), 0.1

async def application(scope, receive, send):
    if scope["path"] == "/slow":
        await asyncio.sleep(3600)
    if scope["path"] == "/whole":
        whole = scope["extensions"][WHOLE]
        body = whole.take_body()
        told = [(b"content-length", b"%d" % len(body or b"late")), (b"x-a", scope["query_string"])]
        if whole.answer(200, [(each[0], each[1].replace(b"~", b"\\n")) for each in told],
                        body or b"late"):
            return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})

uvicorn.run(application, port=int(sys.argv[1]), http="mlserver.connections:Connection",
            lifespan="off", log_level="error", timeout_graceful_shutdown=0)
"""


class Server:
    def __init__(self, port: int, head_seconds: float) -> None:
        command = [sys.executable, "-c", SERVER, str(port), str(KEPT + SPARE_FILES)]
        self.port = port
        self.process = subprocess.Popen([*command, str(head_seconds)], cwd=ROOT)
        self._client = httpx.Client(timeout=30, headers={"Connection": "close"})

    def answers(self) -> bool:
        try:
            return self._client.get(f"http://127.0.0.1:{self.port}").text == "hello"
        except httpx.TransportError:
            return False

    def end(self) -> None:
        self._client.close()
        self.process.kill()
        self.process.wait()

    def open_files(self) -> int:
        return int(psutil.Process(self.process.pid).num_fds())

    def connect(self, sent: bytes = b"") -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        made.sendall(sent)
        return made


@contextmanager
def serving(head_seconds: float) -> Iterator[Server]:
    server = Server(free_port(), head_seconds)
    try:
        wait_until(server.answers)
        yield server
    finally:
        server.end()


def hears(client: socket.socket) -> bytes:
    try:
        return client.recv(1)
    except ConnectionResetError:  # what it said was not even read
        return b""


def asking(
    body: bytes,
    *headers: bytes,
    method: bytes = b"POST",
    path: bytes = b"/whole",
    version: bytes = b"1.1",
) -> bytes:
    lines = [b"%b %b HTTP/%b" % (method, path, version), b"Host: here", *headers]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < CROWD + 500:
        pytest.skip(f"this process may open only {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_a_crowd_that_asks_nothing_keeps_nobody_waiting() -> None:
    with serving(head_seconds=3600) as server, ExitStack() as crowd:
        files = server.open_files()
        for number in range(CROWD):
            sent = (b"", b"GET / HTTP/1.1\r\nHost: half", b"G")[number % 3]
            crowd.enter_context(server.connect(sent))
            if number % 100 == 0:
                assert server.answers(), number
        wait_until(lambda: server.open_files() <= files + KEPT + 5)
        assert server.answers()
        crowd.close()
        wait_until(lambda: server.open_files() <= files)
        assert server.answers()


def test_whoever_says_nothing_is_let_go() -> None:
    with serving(head_seconds=0.3) as server, ExitStack() as crowd:
        files = server.open_files()
        silent = [crowd.enter_context(server.connect(sent)) for sent in (b"", b"GET / HT") * 20]
        assert not any(map(hears, silent))
        wait_until(lambda: server.open_files() <= files)


def test_where_all_are_busy_the_next_is_told_to_come_again() -> None:
    with serving(head_seconds=3600) as server, ExitStack() as crowd:
        busy = b"GET /slow HTTP/1.1\r\nHost: here\r\n\r\n"
        for _ in range(KEPT):
            crowd.enter_context(server.connect(busy))
        answer = b""

        def is_refused() -> bool:  # as soon as the last of them is being answered
            nonlocal answer
            with server.connect() as late:
                late.settimeout(0.2)
                try:
                    answer = late.recv(4096)
                except TimeoutError:
                    return False
            return answer.startswith(b"HTTP/1.1 503 ")

        wait_until(is_refused)
        assert b"retry-after: 1\r\n" in answer
        assert b'"code": "too_many_connections"' in answer


def test_what_has_come_whole_is_answered_request_after_request() -> None:
    with serving(head_seconds=3600) as server, server.connect() as client:
        for body in (b"one", b"", b"three"):
            client.sendall(asking(body))
            answer = client.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answer.endswith(b"\r\n\r\n" + (body or b"late"))


def test_several_requests_at_once_are_answered_in_their_order() -> None:
    with serving(head_seconds=3600) as server, server.connect() as client:
        client.sendall(asking(b"one") + asking(b"two") + asking(b"end", b"Connection: close"))
        answers = b"".join(iter(lambda: client.recv(4096), b""))
        assert [each[-3:] for each in answers.split(b"HTTP/1.1 200 OK\r\n")[1:]] == [
            b"one",
            b"two",
            b"end",
        ]
        assert answers.count(b"connection: close") == 1


def test_who_asks_for_the_head_alone_gets_no_body() -> None:
    with serving(head_seconds=3600) as server, server.connect() as client:
        client.sendall(asking(b"", method=b"HEAD") + asking(b"end", b"Connection: close"))
        answer = b"".join(iter(lambda: client.recv(4096), b""))
        _, _, rest = answer.partition(b"\r\n\r\n")
        assert rest.startswith(b"HTTP/1.1 200 OK\r\n")
        assert rest.endswith(b"\r\n\r\nend")


def test_a_request_that_is_over_leaves_nothing_to_collect() -> None:
    scope: Any = {}
    cycle = RequestResponseCycle(scope, *[cast(Any, None)] * 10)
    scope["extensions"] = {WHOLE: Whole(cycle)}
    is_left = ref(cycle)
    del cycle
    assert is_left() is None


def test_an_old_client_is_answered_and_left() -> None:
    with serving(head_seconds=3600) as server, server.connect(asking(b"a", version=b"1.0")) as old:
        assert b"".join(iter(lambda: old.recv(4096), b"")).endswith(b"\r\n\r\na")


def test_who_asks_whether_to_go_on_and_does_not_wait_is_answered_once() -> None:
    with serving(head_seconds=3600) as server:
        asked = asking(b"now", b"Expect: 100-continue", b"Connection: close")
        with server.connect(asked) as client:
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.count(b"HTTP/1.1 ") == 1


def test_a_body_that_is_on_its_way_is_not_taken() -> None:
    with serving(head_seconds=3600) as server, server.connect() as client:
        client.sendall(asking(b"slowly")[:-3])
        assert client.recv(4096).endswith(b"late")


def test_a_header_with_a_line_break_is_never_sent() -> None:
    with serving(head_seconds=3600) as server, server.connect() as client:
        client.sendall(asking(b"a", path=b"/whole?x~evil:yes"))
        answer = client.recv(4096)
        assert answer.startswith((b"HTTP/1.1 500 ", b"HTTP/1.1 400 "))
        assert b"evil" not in answer
