"""Pages of other sites: only those of CORS_ORIGINS, only with a key, never with a cookie."""

from __future__ import annotations

import pytest
from django.test import Client
from pytest_django import Settings

LAB = "https://lab.example.org"


def preflight(origin: str, path: str = "/api/v1/me") -> dict[str, str]:
    headers = {
        "origin": origin,
        "access-control-request-method": "PATCH",
        "access-control-request-headers": "authorization, content-type",
    }
    return dict(Client().options(path, headers=headers).items())


@pytest.fixture(autouse=True)
def _lab(db: None, settings: Settings) -> None:
    settings.CORS_ALLOWED_ORIGINS = [LAB]


def test_a_named_site_may_ask_and_read(settings: Settings) -> None:
    answer = preflight(LAB)
    assert answer["access-control-allow-origin"] == LAB
    assert "PATCH" in answer["access-control-allow-methods"]
    assert "x-api-key" in answer["access-control-allow-headers"]
    read = Client().get("/api/v1/me", headers={"origin": LAB})
    assert "retry-after" in read["access-control-expose-headers"]


def test_a_preflight_needs_no_key_and_takes_nothing_from_the_limit(settings: Settings) -> None:
    settings.RATE_LIMIT_ENABLED, settings.RATE_LIMIT_REQUESTS = True, 1
    for _ in range(3):
        assert preflight(LAB)["access-control-allow-origin"] == LAB


def test_another_site_may_not() -> None:
    assert "access-control-allow-origin" not in preflight("https://evil.example")


def test_cookies_are_never_allowed() -> None:
    assert "access-control-allow-credentials" not in preflight(LAB)


def test_pages_are_not_for_other_sites() -> None:
    assert "access-control-allow-origin" not in preflight(LAB, "/settings/keys/")
    assert "access-control-allow-origin" not in preflight(LAB, "/login/")
