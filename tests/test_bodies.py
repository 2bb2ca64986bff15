import asyncio
from typing import Any

import orjson
import pytest
from pytest_django import Settings

from mlserver import bodies
from mlserver.bodies import LimitedBodies, Message, Receive, Send


@pytest.fixture(autouse=True)
def small_limits(settings: Settings) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    settings.MAX_UPLOAD_SIZE = 0


async def swallow(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Reads the whole body, as Django does, and answers with its length."""
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message["body"])
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


def post(chunks: list[bytes], **headers: str) -> tuple[int, bytes, int]:
    """Status, body, and how many chunks were taken."""
    sent: list[Message] = []
    waiting = list(chunks)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "headers": raw}
    asyncio.run(LimitedBodies(swallow)(scope, receive, send))
    return sent[0]["status"], sent[1]["body"], len(chunks) - len(waiting)


def test_a_body_within_the_limit_passes() -> None:
    assert post([b"x" * 60, b"x" * 40])[:2] == (200, b"100")


def test_an_announced_body_over_the_limit_is_refused_unread() -> None:
    status, body, taken = post([b"x"], content_length="101")
    assert (status, taken) == (413, 0)
    assert orjson.loads(body)["code"] == "too_large"


def test_a_body_that_says_nothing_is_counted() -> None:
    status, _, taken = post([b"x" * 60] * 10)
    assert (status, taken) == (413, 2)


def test_a_lie_about_the_length_changes_nothing() -> None:
    assert post([b"x" * 60] * 10, content_length="5")[0] == 413


def test_uploads_have_a_limit_of_their_own() -> None:
    kind = "multipart/form-data; boundary=x"
    assert post([b"x" * 2**19] * 2, content_type=kind)[0] == 200
    assert post([b"x" * 2**19] * 3, content_type=kind)[0] == 413


def test_a_body_that_stops_coming_is_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "IDLE_SECONDS", 0.01)
    sent: list[Message] = []
    parts: list[Message] = [{"type": "http.request", "body": b"x", "more_body": True}]

    async def receive() -> Message:
        if not parts:
            await asyncio.sleep(3600)
        return parts.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(LimitedBodies(swallow)({"type": "http", "headers": []}, receive, send))
    assert sent[0]["status"] == 408
    assert orjson.loads(sent[1]["body"])["code"] == "too_slow"


def test_a_whole_body_may_be_followed_by_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "IDLE_SECONDS", 0.01)
    messages: list[Message] = [
        {"type": "http.request", "body": b"x"},
        {"type": "http.disconnect"},
    ]
    heard = []

    async def receive() -> Message:
        if len(messages) == 1:
            await asyncio.sleep(0.05)  # longer than a body may be silent
        return messages.pop(0)

    async def listen(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        heard.extend([(await receive())["type"] for _ in range(2)])

    async def send(message: Message) -> None:
        raise AssertionError(message)

    asyncio.run(LimitedBodies(listen)({"type": "http", "headers": []}, receive, send))
    assert heard == ["http.request", "http.disconnect"]
