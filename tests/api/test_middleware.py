import asyncio
import re

import pytest
from django.contrib.auth.models import User
from django.core.handlers.asgi import ASGIHandler
from django.test import AsyncClient, Client

from accounts.services import create_key


def test_every_answer_has_an_id_and_a_time(client: Client, db: None) -> None:
    response = client.get("/api/v1/")
    assert re.fullmatch(r"[0-9a-f]{32}", response["X-Request-ID"])
    assert float(response["X-Process-Time"]) >= 0


def test_an_id_that_was_sent_comes_back(client: Client, db: None) -> None:
    sent = "abc-123_X.y"
    assert client.get("/api/v1/", headers={"x-request-id": sent})["X-Request-ID"] == sent


@pytest.mark.parametrize("sent", ["a b", "x" * 65, "<script>", "é", "", "a\tb"])
def test_an_id_that_could_do_harm_is_replaced(client: Client, db: None, sent: str) -> None:
    assert client.get("/api/v1/", headers={"x-request-id": sent})["X-Request-ID"] != sent


@pytest.mark.django_db(transaction=True)
def test_it_works_under_asgi(async_client: AsyncClient) -> None:
    async def ask() -> None:
        response = await async_client.get("/api/v1/")
        assert response.status_code == 200
        assert response["X-Request-ID"]
        response = await async_client.get("/plain/conflict")
        assert response.status_code == 409
        response = await async_client.get("/plain/%00")
        assert response.status_code == 400

    asyncio.run(ask())


@pytest.mark.django_db(transaction=True)
def test_a_body_in_chunks_is_read(owner: User) -> None:
    """HTTP/1.1 chunks carry no Content-Length; Django alone would see an empty body."""
    _, raw = create_key(user=owner, name="test", role="operator")
    parts = [b'{"a": ', b"[1, 2]}"]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/v1/echo",
        "query_string": b"",
        "headers": [
            (b"host", b"localhost"),
            (b"transfer-encoding", b"chunked"),
            (b"content-type", b"application/json"),
            (b"authorization", f"Bearer {raw}".encode()),
        ],
    }
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        if not parts:
            await asyncio.sleep(60)
        body = parts.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(parts)}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    asyncio.run(ASGIHandler()(scope, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 200
    assert sent[1]["body"] == b'{"a":[1,2]}'


def test_the_headers_that_keep_a_browser_safe_are_there(client: Client, db: None) -> None:
    response = client.get("/api/v1/")
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["X-Frame-Options"] == "DENY"
    assert response["Referrer-Policy"] == "same-origin"
    policy = response["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
