"""Keys, roles, networks, limits and the log of attempts hold at the data plane as everywhere."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.inference.plane.conftest import Served
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("plane")]

PATH = "/api/v1/predict"
BODY = {"model_name": "small", "inputs": {"x": [[1, 2, 3, 4]]}}
LOGIN = """
import json
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
user = User.objects.get(username="admin")
store = SessionStore()
store[SESSION_KEY] = str(user.pk)
store[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
store[HASH_SESSION_KEY] = user.get_session_auth_hash()
store.save()
print(json.dumps(store.session_key))
"""


def make_key(served: Served, **more: Any) -> dict[str, Any]:
    """With its `id`, `prefix` and the `key` itself."""
    with served.client() as client:
        made = client.post("/api/v1/auth/keys/", json={"name": "x", "role": "admin", **more})
    assert made.status_code == 201, made.text
    key: dict[str, Any] = made.json()
    return key


def change_key(served: Served, key: dict[str, Any], **values: Any) -> None:
    """Nothing to change: it is revoked."""
    path = f"/api/v1/auth/keys/{key['id']}"
    with served.client() as client:
        done = client.patch(path, json=values) if values else client.delete(path)
    assert done.is_success, done.text


def ask(served: Served, key: str = "", **headers: str) -> httpx.Response:
    sent = {"X-API-Key": key} if key else {}
    return httpx.post(served.url + PATH, json=BODY, headers={**sent, **headers}, timeout=60)


def test_refusals_are_those_of_django(served: Served) -> None:
    key = served.stack.key
    for answer, status in (
        (ask(served), 401),
        (ask(served, key[:-4] + "AAAA"), 401),
        (ask(served, key, Authorization=f"Bearer {served.keys['viewer']}"), 401),
        (ask(served, served.keys["elsewhere"]), 403),
        (ask(served, served.keys["far"]), 401),
    ):
        sent = {
            name: value
            for name, value in answer.request.headers.items()
            if name in ("authorization", "x-api-key")
        }
        django = httpx.get(served.url + "/api/v1/models/loaded", headers=sent, timeout=60)
        assert answer.status_code == status, answer.text
        problem = answer.json()
        assert problem["request_id"] == answer.headers["X-Request-ID"]
        assert (problem["success"], problem["error"]) == (False, problem["detail"])
        assert answer.headers.get("WWW-Authenticate") == (
            'Bearer realm="mlserver"' if status == 401 else None
        )
        if status == 401:
            assert django.status_code == 401
            assert django.json()["detail"] == problem["detail"]
    assert ask(served, Host="elsewhere.example").status_code == 400


@pytest.mark.parametrize(
    "values", [{}, {"scopes": ["datasets"]}, {"allowed_networks": ["203.0.113.0/24"]}]
)
def test_what_happens_to_a_key_counts_soon(served: Served, values: dict[str, Any]) -> None:
    """Also for a client that never pauses: the key is looked up again behind its back."""
    key = make_key(served)
    with httpx.Client(base_url=served.url, headers={"X-API-Key": key["key"]}, timeout=60) as client:
        assert client.post(PATH, json=BODY).status_code == 200
        change_key(served, key, **values)
        # Within a second, on a machine that has nothing else to do.
        wait_until(lambda: client.post(PATH, json=BODY).status_code in (401, 403), seconds=30)


def test_a_key_ends_when_it_expires(served: Served) -> None:
    key = make_key(served, expires_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    assert ask(served, key["key"]).status_code == 200
    expires_at = datetime.now(UTC) + timedelta(seconds=3)
    change_key(served, key, expires_at=expires_at.isoformat())
    wait_until(lambda: ask(served, key["key"]).status_code == 401)
    assert datetime.now(UTC) > expires_at


def test_successes_of_a_minute_are_one_row_with_their_count(served: Served) -> None:
    key = make_key(served)
    for _ in range(20):
        assert ask(served, key["key"]).status_code == 200
    ask(served, key["key"][:-4] + "AAAA")

    def attempts() -> list[dict[str, Any]]:
        with served.client() as client:
            asked = {"prefix": key["prefix"]}
            found: list[dict[str, Any]] = client.get("/api/v1/auth/logs/", params=asked).json()[
                "results"
            ]
            return found

    wait_until(lambda: sum(row["count"] for row in attempts() if row["success"]) == 20)
    rows = attempts()
    assert sum(row["success"] for row in rows) <= 2  # a minute may have ended meanwhile
    assert {row["endpoint"] for row in rows} == {PATH}
    assert [(row["reason"], row["count"]) for row in rows if not row["success"]] == [
        ("wrong secret", 1)
    ]


def test_other_sites_may_ask_where_the_setting_says_so(served: Served) -> None:
    origin = {"Origin": "https://friend.example"}
    preflight = httpx.options(
        served.url + PATH, headers={**origin, "Access-Control-Request-Method": "POST"}
    )
    assert preflight.headers["Access-Control-Allow-Origin"] == "https://friend.example"
    answer = ask(served, served.stack.key, **origin)
    assert answer.headers["Access-Control-Allow-Origin"] == "https://friend.example"
    stranger = ask(served, served.stack.key, Origin="https://foe.example")
    assert "Access-Control-Allow-Origin" not in stranger.headers


def test_a_key_with_a_limit_lets_in_exactly_so_many(served: Served) -> None:
    key = make_key(served)
    raw = key["key"]
    change_key(served, key, rate_limit_requests=300, rate_limit_period=864000)

    def ask_some(count: int) -> list[int]:
        with httpx.Client(base_url=served.url, headers={"X-API-Key": raw}, timeout=60) as client:
            return [client.post(PATH, json=BODY).status_code for _ in range(count)]

    with ThreadPoolExecutor(16) as pool:
        statuses = Counter(s for some in pool.map(ask_some, [30] * 16) for s in some)
    assert statuses == {200: 300, 429: 180}
    refused = ask(served, raw)
    assert refused.json()["code"] == "rate_limited"
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.headers["X-RateLimit-Remaining"] == "0"


def test_a_login_in_a_browser_needs_its_token(served: Served) -> None:
    token = "a" * 32
    cookie = {"Cookie": f"sessionid={served.django(LOGIN)}; csrftoken={token}"}
    assert ask(served, **cookie).status_code == 403
    assert ask(served, **cookie, **{"X-CSRFToken": token}).status_code == 200


def test_errors_and_answers_are_counted(served: Served) -> None:
    def read() -> dict[str, float]:
        with served.client() as client:
            lines = client.get("/metrics").text.splitlines()
        return {
            name: float(value)
            for name, _, value in (line.rpartition(" ") for line in lines)
            if not name.startswith("#")
        }

    route = '{endpoint="/api/v1/predict/",error_type="not_authenticated"}'
    success = 'inference_requests_total{model_name="small@1",status="success"}'
    before = read()
    ask(served, served.stack.key)
    ask(served)
    after = read()
    changed: dict[str, Any] = {key: after[key] - before.get(key, 0) for key in after}
    assert changed[success] == 1
    assert changed["errors_total" + route] == 1
    assert changed['inference_latency_seconds_count{model_name="small@1"}'] == 1
    answered = 'http_requests_total{method="POST",route="/api/v1/predict/",status="200"}'
    assert changed[answered] == 1
