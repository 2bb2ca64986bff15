"""Every change leaves a row: who, what, from what to what, how, by which key, from where."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from accounts import audit
from accounts.models import ApiKey, AuditEntry
from accounts.services import create_key
from jobs.models import State
from mlserver.api.permissions import role_of
from sessions.services import cancel_session, delete_session, rename_session, set_priority
from tests import factories

JSON = "application/json"
AUDIT = "/api/v1/audit/"


def door(user: User) -> Client:
    _, raw = create_key(user=user, name="door", role=role_of(user))
    return Client(headers={"authorization": f"Bearer {raw}", "x-request-id": "req-1"})


def page_of(user: User) -> Client:
    client = Client(headers={"accept": "text/html"})
    client.force_login(user)
    return client


def last(action: str) -> AuditEntry:
    return AuditEntry.objects.filter(action=action).latest("id")


# --- What a row says --------------------------------------------------------------------


def test_a_change_over_the_api_says_everything(owner: User) -> None:
    client = door(owner)
    made = client.post("/api/v1/auth/keys/", {"name": "ci"}, JSON).json()
    client.patch(f"/api/v1/auth/keys/{made['id']}", {"name": "cd", "role": "viewer"}, JSON)
    row = last("key.change")
    assert (row.username, row.user, row.object_type) == ("owner", owner, "key")
    assert row.object_id == str(made["id"])
    assert row.before == {"name": "ci", "role": "operator"}
    assert row.after == {"name": "cd", "role": "viewer"}
    assert (row.how, row.address, row.request_id) == ("api", "127.0.0.1", "req-1")
    assert row.key_prefix == ApiKey.objects.get(name="door").prefix


def test_a_change_on_a_page_and_in_the_admin_says_so(owner: User, admin: User) -> None:
    key, _ = create_key(user=owner, name="x", role="viewer")
    page_of(owner).post(f"/settings/keys/{key.pk}/revoke/")
    assert (last("key.revoke").how, last("key.revoke").username) == ("page", "owner")
    key, _ = create_key(user=owner, name="y", role="viewer")
    chosen = {"action": "revoke", "_selected_action": [str(key.pk)]}
    page_of(admin).post("/admin/accounts/apikey/", chosen)
    assert (last("key.revoke").how, last("key.revoke").username) == ("admin", "admin")


def test_a_command_says_so(owner: User) -> None:
    call_command("create_key", user="owner", name="laptop")
    row = last("key.create")
    assert (row.how, row.username, row.request_id, row.address) == ("command", "owner", "", None)


def test_the_server_itself_has_no_name(db: None) -> None:
    row = audit.record(None, "session.pause", "s1")
    assert (row.how, row.username, row.user) == ("server", "", None)


def test_who_is_gone_keeps_their_name(owner: User) -> None:
    audit.record(owner, "session.start", "s1")
    owner.delete()
    row = AuditEntry.objects.get()
    assert (row.user, row.username) == (None, "owner")


def test_what_is_asked_next_is_not_taken_for_the_same_request(owner: User) -> None:
    door(owner).post("/api/v1/auth/keys/", {"name": "ci"}, JSON)
    assert audit.record(owner, "session.start", "s1").request_id == ""


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("a\0b\ud800", "a�b?"),
        ("x" * 600, "x" * 500 + "…"),
        ({"deep": [{1}, None, 1.5]}, {"deep": [[1], None, 1.5]}),
        (object, "<class 'object'>"),
    ],
)
def test_whatever_changed_can_be_stored(db: None, value: Any, kept: Any) -> None:
    audit.record(None, "x.change", "1", after={"value": value})
    assert AuditEntry.objects.get().after == {"value": kept}


def test_secrets_are_left_out_by_name(db: None) -> None:
    audit.record(None, "x.change", "1", after={"password": "p", "webhook_secret": "s", "name": "n"})
    assert AuditEntry.objects.get().after == {"name": "n"}


# --- Sessions, queue, people ------------------------------------------------------------


def test_what_is_done_to_a_session_is_told(owner: User) -> None:
    session = factories.session(owner=owner, state=State.QUEUED)
    rename_session(session, owner, "first")
    set_priority(session, owner, 5)
    cancel_session(session, owner)
    delete_session(session, owner)
    rows = AuditEntry.objects.filter(object_id=session.pk).order_by("id")
    assert [(row.action, row.before, row.after) for row in rows] == [
        ("session.change", {"name": ""}, {"name": "first"}),
        ("session.change", {"priority": 0}, {"priority": 5}),
        ("session.cancel", {"state": "queued"}, {}),
        ("session.delete", {"name": "first", "state": "cancelled"}, {}),
    ]


def test_a_refused_change_is_no_change(owner: User, teammate: User) -> None:
    session = factories.session(owner=owner)
    door(teammate).post(f"/api/v1/sessions/{session.pk}/cancel")
    assert not AuditEntry.objects.filter(object_type="session").exists()


def test_holding_the_queue_is_told_with_who_did_it(admin: User) -> None:
    page_of(admin).post("/sessions/queue/hold/", {"reason": "a talk"})
    row = last("queue.hold")
    assert (row.username, row.after["reason"]) == ("admin", "a talk")


def test_a_persons_new_role_is_told_and_their_password_is_not(admin: User, owner: User) -> None:
    group = factories.user("x", role="viewer").groups.get()
    form = {
        "username": "owner",
        "is_active": "on",
        "groups": [str(group.pk)],
        "date_joined_0": "2026-01-01",
        "date_joined_1": "00:00:00",
    }
    assert page_of(admin).post(f"/admin/auth/user/{owner.pk}/change/", form).status_code == 302
    row = last("user.change")
    assert (row.username, row.object_id, row.after["groups"]) == (
        "admin",
        str(owner.pk),
        ["viewer"],
    )
    assert "password" not in row.after


# --- Reading them -----------------------------------------------------------------------


def test_all_read_what_happens_to_sessions_and_only_admins_keys_of_others(
    owner: User, teammate: User, admin: User
) -> None:
    audit.record(owner, "session.start", "s1")
    create_key(user=owner, name="x", role="viewer")

    def seen(person: User) -> set[tuple[str, str]]:
        rows = door(person).get(AUDIT).json()["results"]
        return {(row["action"], row["user"]) for row in rows}

    assert seen(teammate) == {("session.start", "owner"), ("key.create", "teammate")}
    assert {("session.start", "owner"), ("key.create", "owner")} <= seen(admin)


def test_it_can_be_filtered_and_is_read_only(owner: User) -> None:
    audit.record(owner, "session.start", "s1")
    audit.record(owner, "dataset.delete", "iris")
    client = door(owner)
    found = client.get(AUDIT, {"object_type": "dataset"}).json()
    assert [row["object_id"] for row in found["results"]] == ["iris"]
    assert client.post(AUDIT, {}, JSON).status_code == 405
    row = AuditEntry.objects.first()
    assert row is not None
    assert client.delete(f"{AUDIT}{row.pk}").status_code == 404


def test_the_page_of_a_session_ends_with_its_activity(owner: User) -> None:
    session = factories.session(owner=owner)
    rename_session(session, owner, "first")
    page = page_of(owner).get(f"/sessions/{session.pk}/").content.decode()
    assert 'id="activity"' in page
    assert "session.change" in page
