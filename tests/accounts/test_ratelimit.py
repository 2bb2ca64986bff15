"""How the limit counts, for whom, and what it says of itself."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import get_resolver
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django import Settings

from accounts import ratelimit
from accounts.middleware import is_counted
from accounts.models import ApiKey, AuthLog, RateBucket
from accounts.ratelimit import Limit, take
from accounts.services import create_key

ME = "/api/v1/me"
DAY = 86400


@pytest.fixture(autouse=True)
def _limited(settings: Settings) -> None:
    settings.RATE_LIMIT_ENABLED = True
    settings.RATE_LIMIT_REQUESTS = 3
    settings.RATE_LIMIT_PERIOD = DAY
    settings.REDIS_URL = ""


def client_of(user: User) -> Client:
    _, raw = create_key(user=user, name="x", role="viewer")
    return Client(headers={"x-api-key": raw})


def statuses(client: Client, count: int = 5, path: str = ME) -> list[int]:
    return [client.get(path).status_code for _ in range(count)]


def test_so_many_come_in_and_no_more(owner: User) -> None:
    assert statuses(client_of(owner)) == [200, 200, 200, 429, 429]


def test_a_refusal_writes_nothing_and_says_when_to_come_again(owner: User) -> None:
    client = client_of(owner)
    statuses(client, 3)
    before = (
        list(RateBucket.objects.values()),
        list(ApiKey.objects.values()),
        AuthLog.objects.count(),
    )
    refused = client.get(ME)
    after = (
        list(RateBucket.objects.values()),
        list(ApiKey.objects.values()),
        AuthLog.objects.count(),
    )
    assert before == after
    assert refused["Content-Type"] == "application/problem+json"
    assert refused.json()["code"] == "rate_limited"
    assert 0 < int(refused["Retry-After"]) <= DAY // 3
    assert refused["X-Request-ID"] == refused.json()["request_id"]


def test_every_answer_of_the_api_says_what_is_left(owner: User) -> None:
    client = client_of(owner)
    left = [client.get(path)["X-RateLimit-Remaining"] for path in (ME, "/api/v1/none", ME, ME)]
    assert left == ["2", "1", "0", "0"]
    answer = client.get(ME)
    assert answer["X-RateLimit-Limit"] == "3"
    assert time.time() < int(answer["X-RateLimit-Reset"]) <= time.time() + DAY + 1


def test_each_key_counts_for_itself(owner: User) -> None:
    first, second = client_of(owner), client_of(owner)
    assert statuses(first)[-1] == 429
    assert statuses(second, 3) == [200] * 3


def test_without_a_key_the_address_counts(db: None) -> None:
    assert statuses(Client()) == [401, 401, 401, 429, 429]
    assert Client(REMOTE_ADDR="10.0.0.1").get(ME).status_code == 401


def test_wrong_keys_count_for_the_address_and_not_for_the_key(owner: User) -> None:
    _, raw = create_key(user=owner, name="x", role="viewer")
    thief = Client(REMOTE_ADDR="10.0.0.1", headers={"x-api-key": raw[:-4] + "AAAA"})
    assert Counter(statuses(thief)) == {401: 3, 429: 2}
    assert AuthLog.objects.count() == 3
    assert Client(headers={"x-api-key": raw}).get(ME).status_code == 200


def test_all_addresses_of_an_ipv6_client_are_one(db: None) -> None:
    answers = [Client(REMOTE_ADDR=f"2001:db8::{n}").get(ME).status_code for n in range(1, 6)]
    assert answers == [401, 401, 401, 429, 429]
    assert Client(REMOTE_ADDR="2001:db8:0:1::1").get(ME).status_code == 401


def test_a_forged_header_changes_nothing(db: None) -> None:
    answers = [
        Client(headers={"x-forwarded-for": f"10.0.0.{n}"}).get(ME).status_code for n in range(5)
    ]
    assert answers == [401, 401, 401, 429, 429]


def test_behind_a_trusted_proxy_each_client_counts_for_itself(db: None, settings: Settings) -> None:
    settings.TRUSTED_PROXIES = ["127.0.0.1"]
    answers = [
        Client(headers={"x-forwarded-for": f"1.2.3.4, 10.0.0.{n}"}).get(ME).status_code
        for n in range(5)
    ]
    assert answers == [401] * 5
    one = Client(headers={"x-forwarded-for": "10.9.9.9"})
    assert statuses(one) == [401, 401, 401, 429, 429]


def test_a_key_may_have_a_rate_of_its_own(owner: User, admin: User) -> None:
    _, raw = create_key(user=owner, name="x", role="viewer", rate_limit=(5, DAY), by=admin)
    client = Client(headers={"x-api-key": raw})
    assert statuses(client, 6) == [200] * 5 + [429]
    assert client.get(ME)["X-RateLimit-Limit"] == "5"


def test_a_signed_in_browser_counts_as_its_person(owner: User, teammate: User) -> None:
    one, other = Client(), Client()
    one.force_login(owner)
    other.force_login(teammate)
    assert statuses(one)[-1] == 429
    assert other.get(ME).status_code == 200


@pytest.mark.parametrize(
    "path", ["/health", "/health/live", "/docs", "/openapi.json", "/login/", "/sessions/", "/"]
)
def test_pages_health_and_documents_are_exempt(db: None, path: str) -> None:
    answers = [Client().get(path) for _ in range(5)]
    assert 429 not in {answer.status_code for answer in answers}
    assert not any("X-RateLimit-Limit" in answer for answer in answers)
    assert not RateBucket.objects.exists()


def test_it_can_be_switched_off(owner: User, settings: Settings) -> None:
    settings.RATE_LIMIT_ENABLED = False
    assert statuses(client_of(owner)) == [200] * 5


def test_the_bucket_fills_with_time(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = Limit(requests=2, period=10)
    now = 1_000_000_000
    monkeypatch.setattr(ratelimit, "_now", lambda: now)
    assert [take("a", limit).admitted for _ in range(3)] == [True, True, False]
    now += 4_999_999
    assert not take("a", limit).admitted
    now += 1
    assert [take("a", limit).admitted for _ in range(2)] == [True, False]
    now += 3600 * 1_000_000
    assert [take("a", limit).admitted for _ in range(3)] == [True, True, False]


def test_full_buckets_are_forgotten(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    take("old", Limit(requests=1, period=1))
    now = ratelimit._now() + 2_000_000
    monkeypatch.setattr(ratelimit, "_now", lambda: now)
    take("new", Limit(requests=1, period=60))
    assert ratelimit.forget_full_buckets() == 1
    assert list(RateBucket.objects.values_list("name", flat=True)) == ["new"]


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_the_whole_limit_fits_into_a_burst(requests: int, period: int) -> None:
    limit = Limit(requests=requests, period=period)
    assert limit.burst // limit.interval == requests
    assert limit.burst >= period * ratelimit.SECOND


def test_without_redis_the_database_counts(
    db: None, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert statuses(Client()) == [401, 401, 401, 429, 429]
    assert "the database counts" in caplog.text


def test_every_door_of_the_api_is_counted() -> None:
    """A DRF view outside of the counted prefixes would go uncounted unseen."""
    outside = {
        str(pattern.pattern).strip("/^$")
        for pattern in get_resolver().url_patterns
        if hasattr(getattr(pattern, "callback", None), "cls")
    }
    exempt = {"", "api/v1", "openapi.json", "docs", "redoc", "stream", "metrics"}
    uncounted = {path for path in outside if not is_counted(f"/{path}")}
    assert {path for path in uncounted if not path.startswith("health")} <= exempt
