"""The pages of keys, attempts and changes."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client

from accounts import audit
from accounts.models import ApiKey
from accounts.services import create_key, record_attempt
from tests.accounts.keys import opened_by

PAGES = ["/settings/keys/", "/settings/log/", "/audit/"]
KEY = re.compile(r"mls_[a-z0-9]+_[A-Za-z0-9_-]{43}")


def client_of(user: User) -> Client:
    client = Client(headers={"accept": "text/html"})
    client.force_login(user)
    return client


def shown_key(client: Client, path: str, **typed: object) -> str:
    answer = client.post(path, typed)
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    found = set(KEY.findall(answer.content.decode()))
    assert len(found) == 1
    return str(found.pop())


@pytest.mark.parametrize("path", PAGES)
def test_who_is_not_signed_in_is_sent_to_the_door(db: None, path: str) -> None:
    assert Client(headers={"accept": "text/html"}).get(path).status_code == 302


@pytest.mark.parametrize("path", [*PAGES, "/settings/keys", "/audit"])
def test_everyone_else_may_look(stranger: User, path: str) -> None:
    assert client_of(stranger).get(path).status_code == 200


def test_a_new_key_is_shown_once_with_a_command_to_try_it(owner: User) -> None:
    client = client_of(owner)
    raw = shown_key(client, "/settings/keys/create/", name="laptop", role="viewer", days="7")
    key = opened_by(raw)
    assert key is not None
    assert (key.name, key.role, key.user) == ("laptop", "viewer", owner)
    assert key.expires_at is not None
    assert raw not in client.get("/settings/keys/").content.decode()


def test_a_key_can_be_narrowed_on_the_page(owner: User) -> None:
    typed = {"name": "ci", "role": "operator", "scopes": ["datasets", "models"]}
    client_of(owner).post(
        "/settings/keys/create/", {**typed, "networks": "10.0.0.0/8, 192.168.1.7"}
    )
    key = ApiKey.objects.get()
    assert key.scopes == ["datasets", "models"]
    assert key.allowed_networks == ["10.0.0.0/8", "192.168.1.7/32"]


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ({"name": ""}, "1 to 100 characters"),
        ({"name": "x", "role": "admin"}, "needs that role"),
        ({"name": "x", "networks": "home"}, "is no network"),
        ({"name": "x", "days": "soon"}, "whole number"),
        ({"name": "x", "scopes": "all"}, "scopes must be of"),
    ],
)
def test_what_was_wrong_is_said_and_what_was_typed_is_kept(
    owner: User, typed: dict[str, str], sentence: str
) -> None:
    answer = client_of(owner).post("/settings/keys/create/", typed)
    assert answer.status_code in (403, 422)
    text = answer.content.decode()
    assert sentence in text
    assert f'value="{typed["name"]}"' in text
    assert not ApiKey.objects.exists()


def test_a_key_is_rotated_with_an_overlap(owner: User) -> None:
    key, old = create_key(user=owner, name="x", role="viewer")
    new = shown_key(client_of(owner), f"/settings/keys/{key.pk}/rotate/", overlap="3600")
    assert opened_by(old) == opened_by(new) == key


def test_a_key_is_revoked(owner: User) -> None:
    key, raw = create_key(user=owner, name="x", role="viewer")
    assert client_of(owner).post(f"/settings/keys/{key.pk}/revoke/").status_code == 302
    assert opened_by(raw) is None


def test_the_key_of_another_is_not_even_seen(owner: User, teammate: User) -> None:
    key, raw = create_key(user=owner, name="of the owner", role="viewer")
    client = client_of(teammate)
    assert "of the owner" not in client.get("/settings/keys/").content.decode()
    for verb in ("rotate", "revoke"):
        assert client.post(f"/settings/keys/{key.pk}/{verb}/").status_code == 404
    assert opened_by(raw) == key


def test_an_admin_revokes_and_never_rotates_for_others(owner: User, admin: User) -> None:
    key, raw = create_key(user=owner, name="of the owner", role="viewer")
    client = client_of(admin)
    assert "of the owner" in client.get("/settings/keys/").content.decode()
    assert client.post(f"/settings/keys/{key.pk}/rotate/").status_code == 403
    assert client.post(f"/settings/keys/{key.pk}/revoke/").status_code == 302
    assert opened_by(raw) is None


def test_who_only_looks_makes_no_key(stranger: User) -> None:
    client = client_of(stranger)
    assert client.post("/settings/keys/create/", {"name": "x"}).status_code == 403
    assert 'id="create"' not in client.get("/settings/keys/").content.decode()


def test_keys_are_changed_by_post_alone(owner: User) -> None:
    key, _ = create_key(user=owner, name="x", role="viewer")
    for path in ("create/", f"{key.pk}/rotate/", f"{key.pk}/revoke/"):
        assert client_of(owner).get(f"/settings/keys/{path}").status_code == 405


def test_the_log_shows_ones_own_attempts_and_an_admin_all(owner: User, admin: User) -> None:
    record_attempt(success=False, endpoint="/api/v1/me", reason="revoked", user=owner)
    record_attempt(success=False, endpoint="/api/v1/me", reason="unknown key")
    own = client_of(owner).get("/settings/log/").content.decode()
    assert "revoked" in own
    assert "unknown key" not in own
    everything = client_of(admin).get("/settings/log/?outcome=refused").content.decode()
    assert "unknown key" in everything
    found = client_of(admin).get("/settings/log/?q=revoked").content.decode()
    assert "unknown key" not in found


def test_the_audit_is_searched_and_escaped(owner: User) -> None:
    audit.record(owner, "session.start", "s1", after={"name": "<script>alert(1)</script>"})
    audit.record(owner, "dataset.delete", "iris")
    client = client_of(owner)
    text = client.get("/audit/").content.decode()
    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;" in text
    assert "iris" not in client.get("/audit/?q=session").content.decode()
    assert "s1</td>" not in client.get("/audit/?type=dataset").content.decode()


@pytest.mark.parametrize("path", ["/admin/login/", "/login/", "/settings/keys/"])
def test_every_page_has_the_strict_headers(owner: User, path: str) -> None:
    headers = (Client() if "login" in path else client_of(owner)).get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"


def test_a_refused_host_name_is_told_which_setting_to_change(db: None) -> None:
    for accept in ("text/html", "*/*"):
        answer = Client().get("/", headers={"host": "evil.example", "accept": accept})
        assert answer.status_code == 400
        assert "ALLOWED_HOSTS" in answer.content.decode()
