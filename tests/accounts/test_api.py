"""REST of keys and of the log, for owner, teammate, stranger and admin."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from accounts.models import ApiKey
from accounts.services import create_key, record_attempt
from mlserver.api.permissions import role_of
from tests.accounts.keys import opened_by

JSON = "application/json"
KEYS = "/api/v1/auth/keys"
LOGS = "/api/v1/auth/logs"


def door(user: User, role: str | None = None) -> Client:
    _, raw = create_key(user=user, name="door", role=role or role_of(user))
    return Client(headers={"authorization": f"Bearer {raw}"})


def make(client: Client, status: int = 201, **body: Any) -> dict[str, Any]:
    response = client.post(KEYS, body, content_type="application/json")
    assert response.status_code == status, response.content
    answer: dict[str, Any] = response.json()
    return answer


def change(client: Client, key_id: int, **body: Any) -> Any:
    return client.patch(f"{KEYS}/{key_id}", body, content_type="application/json")


def test_a_key_is_shown_once(owner: User) -> None:
    client = door(owner)
    made = make(client, name="notebook")
    assert opened_by(made["key"])
    assert made["role"] == "operator"
    again = client.get(f"{KEYS}/{made['id']}").json()
    assert "key" not in again
    assert "hash" not in again
    assert made["key"] not in client.get(KEYS).content.decode()


def test_an_answer_with_a_key_is_not_cached(owner: User) -> None:
    response = door(owner).post(KEYS, {"name": "x"}, content_type="application/json")
    assert response["Cache-Control"] == "no-store"


def test_a_key_may_expire(owner: User) -> None:
    until = (timezone.now() + timedelta(days=3)).isoformat()
    made = make(door(owner), name="short", expires_at=until, role="viewer")
    assert made["expires_at"] is not None
    assert made["role"] == "viewer"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "x", "role": "king"}, "role"),
        ({"name": "x", "expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "x", "expires_at": "tomorrow"}, "expires_at"),
        ({"name": "x", "expires": "2030-01-01T00:00:00Z"}, "expires"),
        ({"name": "x", "user": "nobody"}, "user"),
        ({"name": "x", "user": ["owner"]}, "user"),
        ({"name": {"a": 1}}, "name"),
    ],
)
def test_what_cannot_be_is_refused_by_name(owner: User, body: dict[str, Any], field: str) -> None:
    problem = make(door(owner), 422, **body)
    assert [error["field"] for error in problem["errors"]] == [field]


def test_a_viewer_makes_no_key(stranger: User) -> None:
    make(door(stranger), 403, name="x", role="viewer")


def test_nobody_makes_a_key_above_their_role(owner: User) -> None:
    assert make(door(owner), 403, name="x", role="admin")["code"] == "role_too_high"


def test_an_admin_makes_a_key_for_another(admin: User, stranger: User) -> None:
    made = make(door(admin), name="for you", role="viewer", user="stranger")
    assert ApiKey.objects.get(pk=made["id"]).user == stranger


def test_nobody_else_does(owner: User, stranger: User) -> None:
    make(door(owner), 403, name="for you", role="viewer", user="stranger")


def test_each_sees_their_own_keys_and_an_admin_all(
    owner: User, teammate: User, admin: User
) -> None:
    key, _ = create_key(user=owner, name="mine", role="viewer")
    assert key.pk in [row["id"] for row in door(owner).get(KEYS).json()["results"]]
    assert key.pk in [row["id"] for row in door(admin).get(KEYS).json()["results"]]
    assert door(teammate).get(KEYS).json()["total"] == 1
    assert door(teammate).get(f"{KEYS}/{key.pk}").status_code == 404


def test_a_key_is_renamed_and_weakened_by_its_owner(owner: User) -> None:
    key, _ = create_key(user=owner, name="mine", role="operator")
    answer = change(door(owner), key.pk, name="yours", role="viewer", expires_at=None)
    assert answer.status_code == 200
    assert (answer.json()["name"], answer.json()["role"]) == ("yours", "viewer")


def test_a_change_must_be_understood(owner: User) -> None:
    key, _ = create_key(user=owner, name="mine", role="operator")
    assert change(door(owner), key.pk, revoked_at=None).status_code == 422


def test_a_stranger_changes_nothing(stranger: User) -> None:
    key, _ = create_key(user=stranger, name="mine", role="viewer")
    client = door(stranger)
    assert change(client, key.pk, name="x").status_code == 403
    assert client.delete(f"{KEYS}/{key.pk}").status_code == 403


def test_a_teammate_finds_nothing_to_change(owner: User, teammate: User) -> None:
    key, _ = create_key(user=owner, name="mine", role="viewer")
    client = door(teammate)
    assert change(client, key.pk, name="x").status_code == 404
    assert client.delete(f"{KEYS}/{key.pk}").status_code == 404
    assert client.post(f"{KEYS}/{key.pk}/rotate").status_code == 404


def test_deleting_revokes(owner: User) -> None:
    key, raw = create_key(user=owner, name="mine", role="viewer")
    assert door(owner).delete(f"{KEYS}/{key.pk}").status_code == 204
    assert opened_by(raw) is None
    assert change(door(owner), key.pk, name="x").status_code == 409


def test_an_admin_revokes_but_does_not_rotate_for_others(owner: User, admin: User) -> None:
    key, raw = create_key(user=owner, name="mine", role="viewer")
    client = door(admin)
    assert client.post(f"{KEYS}/{key.pk}/rotate").status_code == 403
    assert opened_by(raw)
    assert client.delete(f"{KEYS}/{key.pk}").status_code == 204


def test_rotating_gives_a_new_key(owner: User) -> None:
    key, raw = create_key(user=owner, name="mine", role="viewer")
    answer = door(owner).post(f"{KEYS}/{key.pk}/rotate/", {}, JSON).json()
    assert opened_by(answer["key"]) == key
    assert opened_by(raw) is None


@pytest.mark.parametrize("key_id", ["0", "9" * 18, "9" * 40, "abc", "-1"])
def test_an_id_that_is_none_is_not_found(owner: User, key_id: str) -> None:
    assert door(owner).get(f"{KEYS}/{key_id}").status_code == 404


def test_replacing_a_key_is_no_method(owner: User) -> None:
    key, _ = create_key(user=owner, name="mine", role="viewer")
    response = door(owner).put(f"{KEYS}/{key.pk}", {}, content_type="application/json")
    assert response.status_code == 405


def test_keys_are_filtered_and_ordered(owner: User) -> None:
    create_key(user=owner, name="a", role="viewer")
    client = door(owner)
    assert client.get(KEYS, {"role": "viewer"}).json()["total"] == 1
    assert client.get(KEYS, {"role": "king"}).status_code == 422
    names = [row["name"] for row in client.get(KEYS, {"ordering": "name"}).json()["results"]]
    assert names == ["a", "door"]


def test_each_sees_their_own_attempts_and_an_admin_all(
    owner: User, teammate: User, admin: User
) -> None:
    record_attempt(success=False, endpoint="/theirs", user=teammate, reason="expired")
    record_attempt(success=False, endpoint="/nobodys", reason="not a key")

    def endpoints(user: User) -> set[str]:
        return {row["endpoint"] for row in door(user).get(LOGS).json()["results"]}

    assert endpoints(owner) == {LOGS}
    assert endpoints(teammate) == {LOGS, "/theirs"}
    assert endpoints(admin) == {LOGS, "/theirs", "/nobodys"}


def test_attempts_are_only_read(admin: User) -> None:
    client = door(admin)
    assert client.post(LOGS, {}, content_type="application/json").status_code == 405
    assert client.delete(f"{LOGS}/1").status_code == 404


def test_the_log_shows_no_hash(admin: User) -> None:
    assert all("hash" not in row for row in door(admin).get(LOGS).json()["results"])


def test_lists_cost_the_same_however_long(
    admin: User, owner: User, django_assert_max_num_queries: Any
) -> None:
    for number in range(20):
        create_key(user=owner, name=f"{number}", role="viewer")
    client = door(admin)
    client.get(KEYS)
    with django_assert_max_num_queries(6):
        assert client.get(KEYS).json()["total"] == 21
