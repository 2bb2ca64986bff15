"""Keys that are narrower than their role: scopes, networks, a rate of their own; rotation."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from accounts.limits import KeyTooWide
from accounts.models import ApiKey, AuthLog
from accounts.services import change_key, create_key, rotate_key
from mlserver.api.permissions import act_by_key
from mlserver.lib.errors import Forbidden, Invalid
from tests.accounts.keys import opened_by

KEYS = "/api/v1/auth/keys"
JSON = "application/json"


def make(user: User, **values: Any) -> tuple[ApiKey, str]:
    return create_key(**{"user": user, "name": "laptop", "role": "operator", **values})


def client_with(raw: str, address: str = "127.0.0.1") -> Client:
    return Client(REMOTE_ADDR=address, headers={"authorization": f"Bearer {raw}"})


# --- Scopes -----------------------------------------------------------------------------


def test_a_key_opens_only_its_areas(owner: User) -> None:
    client = client_with(make(owner, scopes=["datasets"])[1])
    assert client.get("/api/v1/datasets/").status_code == 200
    assert client.get("/api/v1/me").status_code == 200
    refused = client.get("/api/v1/models/")
    assert refused.status_code == 403
    assert refused.json()["detail"] == "This key is only for datasets, not for models."


@pytest.mark.parametrize("path", ["/api/v1/datasets", "/api/v1/datasets/iris/preview"])
def test_the_area_does_not_hang_on_how_the_address_is_written(owner: User, path: str) -> None:
    assert client_with(make(owner, scopes=["models"])[1]).get(path).status_code == 403


def test_without_scopes_everything_is_open_that_the_role_allows(owner: User) -> None:
    client = client_with(make(owner)[1])
    for area in ("datasets", "models", "sessions", "audit", "auth/keys"):
        assert client.get(f"/api/v1/{area}/").status_code == 200


def test_an_unknown_area_is_refused_by_name(owner: User) -> None:
    with pytest.raises(Invalid, match="got 'everything'"):
        make(owner, scopes=["everything"])


def test_a_narrow_key_makes_and_touches_no_wider_one(owner: User) -> None:
    narrow, _ = make(owner, scopes=["auth"])
    wide, _ = make(owner)
    act_by_key(owner, narrow)
    with pytest.raises(KeyTooWide):
        make(owner)
    with pytest.raises(KeyTooWide):
        make(owner, scopes=["auth", "models"])
    with pytest.raises(KeyTooWide):
        rotate_key(wide, by=owner)
    with pytest.raises(KeyTooWide):
        change_key(ApiKey.objects.get(pk=narrow.pk), by=owner, scopes=[])
    assert make(owner, scopes=["auth"])


# --- Networks ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "status"),
    [("10.1.2.3", 200), ("::ffff:10.1.2.3", 200), ("192.168.1.7", 200), ("11.0.0.1", 401)],
)
def test_a_key_comes_in_only_from_its_networks(owner: User, address: str, status: int) -> None:
    _, raw = make(owner, allowed_networks=["10.0.0.0/8", "192.168.1.7"])
    assert client_with(raw, address).get("/api/v1/me").status_code == status


def test_the_log_says_that_the_address_was_not_allowed(owner: User) -> None:
    _, raw = make(owner, allowed_networks=["10.0.0.0/8"])
    client_with(raw).get("/api/v1/me")
    assert AuthLog.objects.get().reason == "address not allowed"


def test_networks_are_kept_as_they_are_compared(owner: User) -> None:
    key, _ = make(owner, allowed_networks=["10.1.2.3/8", " 192.168.1.7 ", "fd00::/8"])
    assert key.allowed_networks == ["10.0.0.0/8", "192.168.1.7/32", "fd00::/8"]


@pytest.mark.parametrize("text", ["", "everywhere", "10.0.0.0/33", "300.1.1.1"])
def test_what_is_no_network_is_refused(owner: User, text: str) -> None:
    with pytest.raises(Invalid, match="is no network"):
        make(owner, allowed_networks=[text])


def test_a_key_of_one_network_makes_none_for_another(owner: User) -> None:
    narrow, _ = make(owner, allowed_networks=["10.0.0.0/8"])
    act_by_key(owner, narrow)
    for networks in ([], ["0.0.0.0/0"], ["11.0.0.0/8"], ["::/0"]):
        with pytest.raises(KeyTooWide):
            make(owner, allowed_networks=networks)
    assert make(owner, allowed_networks=["10.7.0.0/16"])


# --- Rotation ---------------------------------------------------------------------------


def test_the_old_secret_opens_until_the_overlap_ends(owner: User) -> None:
    key, old = make(owner)
    _, new = rotate_key(key, by=owner, overlap_seconds=3600)
    assert opened_by(old) == opened_by(new) == key
    assert client_with(old).get("/api/v1/me").status_code == 200
    assert AuthLog.objects.latest("id").reason == "old secret"
    ApiKey.objects.filter(pk=key.pk).update(previous_until=timezone.now() - timedelta(seconds=1))
    assert opened_by(old) is None
    assert opened_by(new) == key


def test_rotating_twice_ends_the_first_secret(owner: User) -> None:
    key, first = make(owner)
    _, second = rotate_key(key, by=owner, overlap_seconds=60)
    rotate_key(key, by=owner, overlap_seconds=60)
    assert opened_by(first) is None
    assert opened_by(second) == key


@pytest.mark.parametrize("seconds", [-1, 604801])
def test_an_overlap_has_its_bounds(owner: User, seconds: int) -> None:
    key, _ = make(owner)
    with pytest.raises(Invalid, match="overlap_seconds"):
        rotate_key(key, by=owner, overlap_seconds=seconds)


def test_a_revoked_key_has_no_old_secret_either(owner: User) -> None:
    key, old = make(owner)
    rotate_key(key, by=owner, overlap_seconds=3600)
    client_with(make(owner)[1]).delete(f"{KEYS}/{key.pk}")
    assert opened_by(old) is None


# --- Over REST --------------------------------------------------------------------------


def test_everything_can_be_said_over_rest(owner: User) -> None:
    client = client_with(make(owner)[1])
    body = {"name": "ci", "scopes": ["datasets"], "allowed_networks": ["10.0.0.0/8"]}
    made = client.post(f"{KEYS}/", body, JSON).json()
    assert (made["scopes"], made["allowed_networks"]) == (["datasets"], ["10.0.0.0/8"])
    changed = client.patch(f"{KEYS}/{made['id']}", {"scopes": ["models"]}, JSON).json()
    assert (changed["scopes"], changed["allowed_networks"]) == (["models"], ["10.0.0.0/8"])
    rotated = client.post(f"{KEYS}/{made['id']}/rotate", {"overlap_seconds": 60}, JSON).json()
    assert rotated["previous_until"]
    assert rotated["key"] != made["key"]


def test_only_an_admin_gives_a_rate(owner: User, admin: User) -> None:
    rate = {"rate_limit_requests": 1000, "rate_limit_period": 1}
    with pytest.raises(Forbidden):
        make(owner, rate_limit=(1000, 1))
    client = client_with(create_key(user=admin, name="x", role="admin")[1])
    made = client.post(f"{KEYS}/", {"name": "ci", "user": "owner", **rate}, JSON)
    assert made.status_code == 201
    path = f"{KEYS}/{made.json()['id']}"
    assert client_with(made.json()["key"]).patch(path, {"name": "new"}, JSON).status_code == 200
    usual = {"rate_limit_requests": None, "rate_limit_period": None}
    assert client_with(made.json()["key"]).patch(path, usual, JSON).status_code == 403
    assert client.patch(path, usual, JSON).json()["rate_limit_requests"] is None


def test_half_a_rate_is_refused(admin: User) -> None:
    client = client_with(create_key(user=admin, name="x", role="admin")[1])
    for half in ({"rate_limit_period": 60}, {"rate_limit_requests": 1, "rate_limit_period": None}):
        assert client.post(f"{KEYS}/", {"name": "ci", **half}, JSON).status_code == 422
