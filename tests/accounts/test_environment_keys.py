"""API_KEYS: each entry is a hashed key from the start on, until it is gone."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from pytest_django import Settings

from accounts.checks import check_doors
from accounts.environment import OWNER, BadEntry, read_entries, sync_environment_keys
from accounts.models import ApiKey, AuditEntry, AuthLog
from accounts.services import create_key

FIRST, SECOND = "s3cr3t-of-the-lab-0001", "another-long-s3cret-0002"


@pytest.fixture
def both(db: None, settings: Settings) -> None:
    settings.API_KEYS = f"{FIRST}, ci:viewer:{SECOND}"
    assert sync_environment_keys() == (2, 0)


def me(raw: str) -> tuple[int, str]:
    answer = Client(headers={"x-api-key": raw}).get("/api/v1/me")
    return answer.status_code, answer.json().get("role", "")


def test_each_entry_opens_with_its_role(both: None) -> None:
    assert me(FIRST) == (200, "operator")
    assert me(SECOND) == (200, "viewer")
    assert list(ApiKey.objects.order_by("id").values_list("name", flat=True)) == [
        "API_KEYS 1",
        "ci",
    ]


def test_only_hashes_are_kept(both: None) -> None:
    rows = str(list(ApiKey.objects.values()) + list(AuditEntry.objects.values()))
    me(FIRST)
    rows += str(list(AuthLog.objects.values()))
    assert FIRST not in rows
    assert SECOND not in rows


def test_the_log_names_the_key_by_its_prefix(both: None) -> None:
    me(FIRST)
    assert AuthLog.objects.get().prefix == ApiKey.objects.get(name="API_KEYS 1").prefix


def test_syncing_again_changes_nothing(both: None) -> None:
    assert sync_environment_keys() == (0, 0)
    assert ApiKey.objects.count() == 2


def test_an_entry_that_is_gone_is_revoked_and_may_come_back(both: None, settings: Settings) -> None:
    settings.API_KEYS = FIRST
    assert sync_environment_keys() == (0, 1)
    assert me(SECOND) == (401, "")
    settings.API_KEYS = f"{FIRST},ci:viewer:{SECOND}"
    assert sync_environment_keys() == (1, 0)
    assert me(SECOND) == (200, "viewer")


def test_all_end_with_the_setting(both: None, settings: Settings) -> None:
    settings.API_KEYS = ""
    assert sync_environment_keys() == (0, 2)
    assert me(FIRST) == (401, "")


def test_a_role_follows_the_setting(both: None, settings: Settings) -> None:
    settings.API_KEYS = f"{FIRST},ci:admin:{SECOND}"
    assert sync_environment_keys() == (0, 0)
    assert me(SECOND) == (200, "admin")
    assert me(FIRST) == (200, "operator")
    assert AuditEntry.objects.filter(action="key.change").get().after == {"role": "admin"}


def test_nobody_signs_in_as_their_owner(both: None) -> None:
    assert not User.objects.get(username=OWNER).has_usable_password()


def test_they_are_changed_in_the_setting_and_nowhere_else(both: None, admin: User) -> None:
    client = Client(headers={"x-api-key": create_key(user=admin, name="x", role="admin")[1]})
    key = ApiKey.objects.get(name="ci")
    refused = client.patch(f"/api/v1/auth/keys/{key.pk}", {"role": "admin"}, "application/json")
    assert refused.status_code == 409
    assert "API_KEYS" in refused.json()["detail"]


def test_keys_of_people_are_left_alone(both: None, owner: User, settings: Settings) -> None:
    _, raw = create_key(user=owner, name="x", role="operator")
    settings.API_KEYS = ""
    sync_environment_keys()
    assert me(raw) == (200, "operator")


def test_an_entry_may_look_like_a_key_of_ours(db: None, settings: Settings) -> None:
    settings.API_KEYS = "mls_abc_0123456789abcdefghij"
    sync_environment_keys()
    assert me(settings.API_KEYS) == (200, "operator")


@pytest.mark.parametrize(
    "text", ["short", "a" * 40, "demo-key", f"ci:king:{FIRST}", f"a:{FIRST}", f"a:b:c:{FIRST}"]
)
def test_what_could_be_guessed_or_misread_stops_the_start(text: str, settings: Settings) -> None:
    with pytest.raises(BadEntry) as refusal:
        read_entries(text)
    assert FIRST not in str(refusal.value)
    settings.API_KEYS = text
    assert [message.id for message in check_doors(None)] == ["mlserver.E010"]


def test_the_command_says_what_it_did(
    db: None, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.API_KEYS = FIRST
    call_command("sync_keys")
    assert capsys.readouterr().out == "Keys from API_KEYS: 1 made, 0 revoked.\n"
    settings.API_KEYS = "short"
    with pytest.raises(CommandError, match="could be guessed"):
        call_command("sync_keys")
