"""480 requests at once against a limit of 100, through two web processes: exactly 100 come in."""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.servers import (
    ROOT,
    answers,
    environment,
    free_port,
    manage,
    postgres_answers,
    postgres_database,
    run_django,
)
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

REDIS = "redis://127.0.0.1:6379/15"
LIMIT, ASKED, THREADS = 100, 480, 24
MAKE_KEY = """
import json
from django.contrib.auth.models import User
from accounts.services import create_key
user, _ = User.objects.get_or_create(username="ann")
print(json.dumps(create_key(user=user, name="laptop", role="operator")[1]))
"""
COUNT_ROWS = """
import json
from accounts.models import AuthLog, RateBucket
attempts = sum(AuthLog.objects.values_list("count", flat=True))
print(json.dumps([attempts, RateBucket.objects.count()]))
"""


ME, PREDICT = "/api/v1/me", "/api/v1/predict"
METHODS = {ME: "GET", PREDICT: "POST"}
NOBODY = {"model_name": "nobody", "inputs": [1]}


def redis_answers() -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", 6379)) == 0


def limited(var_dir: Path, **more: str) -> dict[str, str]:
    """So long a period that nothing is refilled while the test runs."""
    return environment(
        var_dir,
        RATE_LIMIT_ENABLED="1",
        RATE_LIMIT_REQUESTS=str(LIMIT),
        RATE_LIMIT_PERIOD="864000",
        LOG_LEVEL="ERROR",
        **more,
    )


@contextmanager
def web(env: dict[str, str]) -> Iterator[str]:
    """uvicorn as `serve` starts it, with two processes."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "mlserver.asgi:application", "--workers", "2"]
    command += ["--port", str(port), "--no-proxy-headers"]
    process = subprocess.Popen([*command, "--log-level", "error"], cwd=ROOT, env=env)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(f"{url}/health/live"))
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def ask_at_once(url: str, count: int, *, key: str = "", path: str = ME) -> Counter[int]:
    """Statuses by how often they came; every request claims another address."""

    def ask_some(number: int) -> list[int]:
        with httpx.Client(base_url=url, timeout=60) as client:
            statuses = []
            for turn in range(number, count, THREADS):
                headers = {
                    "X-Forwarded-For": f"203.0.113.{turn % 256}",
                    "X-Real-IP": "198.51.100.1",
                }
                if key:
                    headers["Authorization"] = f"Bearer {key}"
                answer = client.request(METHODS[path], path, headers=headers, json=NOBODY)
                statuses.append(answer.status_code)
            return statuses

    with ThreadPoolExecutor(THREADS) as pool:
        return Counter(status for some in pool.map(ask_some, range(THREADS)) for status in some)


def check_exactness(env: dict[str, str], *, buckets: int, by_address: bool = False) -> None:
    key, other = (run_django(MAKE_KEY, env) for _ in range(2))
    with web(env) as url:
        assert ask_at_once(url, ASKED, key=key) == {200: LIMIT, 429: ASKED - LIMIT}
        # Raw ASGI, where what is admitted is taken ahead.
        asked = ask_at_once(url, ASKED, key=other, path=PREDICT)
        assert asked == {404: LIMIT, 429: ASKED - LIMIT}
        if by_address:  # without a key it counts, whatever the forwarding headers claim
            assert ask_at_once(url, LIMIT + THREADS) == {401: LIMIT, 429: THREADS}
        refused = httpx.get(f"{url}/api/v1/me", headers={"X-API-Key": key}, timeout=60)
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.headers["X-RateLimit-Remaining"] == "0"
    attempts, rows = run_django(COUNT_ROWS, env)
    assert attempts == 2 * LIMIT  # nobody who was refused left a row; no key is no attempt
    assert rows == buckets


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    var_dir = tmp_path_factory.mktemp("limit")
    manage("migrate", "--verbosity", "0", env=environment(var_dir))
    return var_dir


@pytest.fixture
def database(migrated: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "db.sqlite3"
    copy.write_bytes((migrated / "db.sqlite3").read_bytes())
    return tmp_path


@pytest.mark.xdist_group("exact-limit")
def test_the_limit_is_exact_on_sqlite(database: Path) -> None:
    check_exactness(limited(database), buckets=3, by_address=True)


@pytest.mark.redis
@pytest.mark.xdist_group("exact-limit")
@pytest.mark.skipif(not redis_answers(), reason="no Redis on its standard local port")
def test_the_limit_is_exact_on_redis(database: Path) -> None:
    import redis

    client = redis.Redis.from_url(REDIS)
    try:
        client.delete("mlserver:rate:key:1", "mlserver:rate:key:2")
        check_exactness(limited(database, REDIS_URL=REDIS), buckets=0)
    finally:
        client.delete("mlserver:rate:key:1", "mlserver:rate:key:2")
        client.close()


@pytest.mark.postgres
@pytest.mark.xdist_group("exact-limit")
@pytest.mark.skipif(not postgres_answers(), reason="no PostgreSQL on its standard local port")
def test_the_limit_is_exact_on_postgres(tmp_path: Path) -> None:
    with postgres_database() as url:
        env = limited(tmp_path, DATABASE_URL=url, SECRET_KEY=secrets.token_urlsafe(50))
        manage("migrate", "--verbosity", "0", env=env)
        check_exactness(env, buckets=2)
