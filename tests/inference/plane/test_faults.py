"""Clients that leave, stall, send nonsense or come all at once; workers that die under load."""

import asyncio
import os
import select
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import orjson
import psutil
import pytest

from inference.plane import bodies
from inference.plane.bodies import Crowded, Room, Seat, TooSlow, read_body
from tests.inference.plane.conftest import Served
from tests.ml.serve.workers import Asker
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("plane")]

PATH = "/api/v1/predict"
WAVES, CLIENTS = 4, 250
SPARE = 20  # a thread that asks the database for the first time opens three files
MOST = 300  # MAX_INFERENCE_REQUESTS of this server


def body(model: str, rows: int = 1, **more: Any) -> bytes:
    return orjson.dumps({"model_name": model, "inputs": {"x": [[1, 2, 3, 4]] * rows}, **more})


@contextmanager
def connected(
    served: Served, content: bytes, announced: int | None = None
) -> Iterator[socket.socket]:
    """A request on a plain socket; fewer bytes than announced: one that stalls."""
    host, port = served.url.removeprefix("http://").split(":")
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {served.stack.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {announced or len(content)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=60) as made:
        made.sendall(head.encode() + content)
        yield made


def open_files(served: Served) -> int:
    """Of the web process."""
    return int(psutil.Process(served.stack.process.pid).num_fds())


def waiting_rows(served: Served) -> int:
    """Of all workers."""
    folder = served.stack.var_dir / "run" / "inference"
    handle = os.open(folder, os.O_PATH)  # a path of /proc is short enough for a socket's address
    try:
        return sum(_waiting_rows(f"/proc/self/fd/{handle}/{p.name}") for p in folder.glob("*.sock"))
    finally:
        os.close(handle)


def _waiting_rows(path: str) -> int:
    try:
        with closing(Asker(path)) as asker:
            asker.send({"kind": "stats", "id": 1})
            return int(asker.receive()[0]["waiting"])
    except (OSError, EOFError):  # the worker of a model that another test unloads
        return 0


def is_answered(served: Served, model: str = "small") -> bool:
    with served.client() as client:
        headers = {"Content-Type": "application/json"}
        return client.post(PATH, content=body(model), headers=headers).status_code == 200


def test_a_thousand_clients_that_leave_leave_nothing_behind(served: Served) -> None:
    assert is_answered(served, "large")
    files = open_files(served)
    content = body("large", rows=16)
    for _ in range(WAVES):
        with ExitStack() as clients:
            for _ in range(CLIENTS):
                clients.enter_context(connected(served, content))
            wait_until(lambda: waiting_rows(served) > 0)
    wait_until(lambda: waiting_rows(served) == 0)
    wait_until(lambda: open_files(served) <= files + SPARE, lambda: (files, open_files(served)))
    assert is_answered(served, "large")


def test_stalled_uploads_keep_nobody_waiting_and_too_many_are_told(served: Served) -> None:
    assert is_answered(served)
    files = open_files(served)
    with ExitStack() as clients:
        for _ in range(MOST - SPARE):
            clients.enter_context(connected(served, b'{"model_name"', announced=1000))
        assert is_answered(served)
        more = [
            clients.enter_context(connected(served, b"{", announced=1000)) for _ in range(2 * SPARE)
        ]
        wait_until(lambda: len(select.select(more, [], [], 0)[0]) >= SPARE)
        answers = [each.recv(4096).lower() for each in select.select(more, [], [], 0)[0]]
        refused = [answer for answer in answers if b" 503 " in answer]
        assert refused
        assert all(b"retry-after: 1" in answer for answer in refused)
        # On a machine that is very busy some have stalled for long enough meanwhile.
        assert all(b" 503 " in answer or b" 408 " in answer for answer in answers)
    wait_until(lambda: open_files(served) <= files + SPARE)
    wait_until(lambda: is_answered(served))


def test_a_body_that_does_not_come_is_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "IDLE_SECONDS", 0.01)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(3600)
        return {}

    async def scene() -> None:
        with Seat(Room()) as seat:
            await read_body({}, None, receive, seat)

    with pytest.raises(TooSlow):
        asyncio.run(scene())


def test_bodies_that_come_drop_by_drop_end_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "WHOLE_SECONDS", 0.05)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.001)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def scene() -> None:
        with Seat(Room()) as seat:
            await read_body({}, None, receive, seat)

    with pytest.raises(TooSlow):
        asyncio.run(scene())


def test_all_bodies_together_have_a_limit() -> None:
    room = Room()
    room.most_bytes = 10
    with Seat(room) as one, Seat(room) as other:
        one.hold(8)
        with pytest.raises(Crowded):
            other.hold(3)
    assert (room.bytes, room.requests) == (0, 0)


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 422),
        (b'{"model_name": "\\ud800", "inputs": [1]}', "application/json", 400),
        (b'{"model_name": "small", "inputs": NaN}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"model_name": "small"}', "application/json", 422),
        (b'{"model_name": null, "inputs": [1]}', "application/json", 422),
        (b'{"model_name": "small", "inputs": [1], "strange": 1}', "application/json", 422),
        (b'{"model_name": "a\\u0000b", "inputs": [1]}', "application/json", 422),
        (b'{"model_name": "small", "inputs": [1]}', "text/plain", 415),
        (b"model_name=small", "application/x-www-form-urlencoded", 415),
        (b" " * (2**21 + 1), "application/json", 413),
    ],
)
def test_nonsense_is_refused_with_a_sentence(
    served: Served, content: bytes, kind: str, status: int
) -> None:
    with served.client() as client:
        answer = client.post(PATH, content=content, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


def test_a_body_that_grows_too_large_while_it_arrives_is_413(served: Served) -> None:
    def drops() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 2**16

    with served.client() as client:
        answer = client.post(PATH, content=drops(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


def test_a_worker_killed_under_load_is_replaced_and_others_do_not_notice(served: Served) -> None:
    seen: dict[str, list[int]] = {"small": [], "words": []}
    is_over = threading.Event()

    def keep_asking(model: str, inputs: dict[str, Any]) -> None:
        with served.client() as client:
            while not is_over.is_set():
                asked = {"model_name": model, "inputs": inputs}
                seen[model].append(client.post(PATH, json=asked).status_code)

    askers = [
        threading.Thread(target=keep_asking, args=("small", {"x": [[1, 2, 3, 4]]})),
        threading.Thread(target=keep_asking, args=("words", {"x": [["a", "b"]]})),
    ]
    for asker in askers:
        asker.start()
    try:
        wait_until(lambda: all(len(statuses) > 20 for statuses in seen.values()))
        killed = served.loaded()["small"]["pid"]
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: 503 in seen["small"])
        wait_until(lambda: served.loaded()["small"]["pid"] not in (None, killed))
        wait_until(lambda: seen["small"][-1] == 200)
    finally:
        is_over.set()
        for asker in askers:
            asker.join()
    assert set(seen["small"]) == {200, 503}
    assert set(seen["words"]) == {200}
    with served.client() as client:
        assert client.get("/v2/models/small/ready").json()["ready"]
