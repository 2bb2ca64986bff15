"""Every route of the OpenAPI document × every way not to be let in: only the open ones answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from drf_spectacular.generators import SchemaGenerator

from accounts.models import ApiKey, AuthLog
from accounts.services import create_key, revoke_key
from accounts.tokens import _issue

METHODS = ("get", "post", "put", "patch", "delete")
OPEN = {
    ("get", "/api/v1/"),
    ("get", "/health/"),
    ("get", "/health/live/"),
    ("get", "/health/ready/"),
    ("get", "/v2/health/live/"),
    ("get", "/v2/health/ready/"),
    ("post", "/api/v1/auth/token/"),
    ("post", "/api/v1/auth/token/refresh/"),
    ("post", "/api/v1/auth/token/verify/"),
}
"""Whatever is not listed here needs a key; a new open door must be meant."""

READS = {
    ("post", "/api/v1/sessions/preflight"),
    ("post", "/api/v1/predict"),
    ("post", "/api/v1/inference/generate"),
    ("post", "/api/v1/inference/classify"),
    ("post", "/api/v1/inference/embed"),
    ("post", "/v1/completions"),
    ("post", "/v1/chat/completions"),
    ("post", "/v1/embeddings"),
    ("post", "/v2/models/{name}/infer"),
    ("post", "/v2/models/{name}/versions/{version}/infer"),
    ("post", "/v2/repository/index"),
}
"""Writes nothing, though it is a POST: viewers may."""

Route = tuple[str, str]


def routes() -> Iterator[tuple[Route, str]]:
    """Method and path as documented, and an address to try."""
    schema = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    for path, operations in schema["paths"].items():
        for method in METHODS:
            if method in operations:
                yield (method, path), re.sub(r"\{[^}]*\}", "1", path)


def knock(client: Client, route: Route, address: str) -> int:
    return int(client.generic(route[0].upper(), address, b"{}", "application/json").status_code)


def answers(client: Client) -> dict[Route, int]:
    return {
        route: knock(client, route, address)
        for route, address in routes()
        if (route[0], _slashed(route[1])) not in OPEN
    }


def _slashed(path: str) -> str:
    return f"{path.rstrip('/')}/"


def with_key(raw: str) -> Client:
    return Client(headers={"authorization": f"Bearer {raw}"}, raise_request_exception=False)


def expired_key(user: User) -> str:
    key, raw = create_key(user=user, name="expired", role="admin")
    ApiKey.objects.filter(pk=key.pk).update(expires_at=timezone.now() - timedelta(days=1))
    return raw


def revoked_key(user: User) -> str:
    key, raw = create_key(user=user, name="revoked", role="admin")
    revoke_key(key)
    return raw


def wrong_key(user: User) -> str:
    _, raw = create_key(user=user, name="wrong", role="admin")
    return raw[:-6] + ("AAAAAA" if not raw.endswith("AAAAAA") else "BBBBBB")


def token_of_somebody_who_left(user: User) -> str:
    access = _issue(user).access
    User.objects.filter(pk=user.pk).update(is_active=False)
    return access


def test_the_document_names_the_routes() -> None:
    found = [route for route, _ in routes()]
    assert len(found) > 60
    documented = {(method, _slashed(path)) for method, path in found}
    assert OPEN - documented <= {("get", "/api/v1/")}  # the root says so in words


def test_without_a_key_nothing_opens(db: None) -> None:
    assert set(answers(Client(raise_request_exception=False)).values()) == {401}


@pytest.mark.parametrize("make", [wrong_key, expired_key, revoked_key, token_of_somebody_who_left])
def test_what_opens_no_more_opens_nothing(admin: User, make: Any) -> None:
    result = answers(with_key(make(admin)))
    assert {route: status for route, status in result.items() if status != 401} == {}
    assert AuthLog.objects.filter(success=False).count() == len(result)


def test_a_viewer_writes_nothing(stranger: User) -> None:
    _, raw = create_key(user=stranger, name="x", role="viewer")
    writes = {
        route: knock(with_key(raw), route, address)
        for route, address in routes()
        if route[0] != "get"
        and (route[0], _slashed(route[1])) not in OPEN
        and (route[0], route[1].rstrip("/")) not in READS
    }
    assert {route: status for route, status in writes.items() if status != 403} == {}


def test_a_key_for_one_area_opens_no_other(admin: User) -> None:
    _, raw = create_key(user=admin, name="x", role="admin", scopes=["webhooks"])
    result = answers(with_key(raw))
    open_to_all = {route for route, status in result.items() if status != 403}
    # A file that is not taken in yet belongs to no area.
    open_to_all = {route for route in open_to_all if not route[1].startswith("/api/v1/uploads/")}
    assert open_to_all <= {("get", "/api/v1/me/")}
