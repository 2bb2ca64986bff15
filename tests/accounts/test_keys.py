"""The life of a key, at the services."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django import Settings

from accounts.models import ApiKey, AuthLog
from accounts.services import (
    KEY_SHAPE,
    KeyRevoked,
    RoleTooHigh,
    change_key,
    clean_address,
    create_first_admin,
    create_key,
    examine_key,
    note_use,
    record_attempt,
    revoke_key,
    rotate_key,
)
from mlserver.api.permissions import act_by_key
from mlserver.lib.errors import Invalid
from tests.accounts.keys import opened_by

IN_AN_HOUR = timedelta(hours=1)


def make(user: User, role: str = "operator", **values: object) -> tuple[ApiKey, str]:
    return create_key(user=user, name="laptop", role=role, **values)  # type: ignore[arg-type]


def test_a_key_opens_and_only_its_hash_is_kept(owner: User) -> None:
    key, raw = make(owner)
    assert KEY_SHAPE.fullmatch(raw)
    assert opened_by(raw, "127.0.0.1") == key
    secret = raw.split("_", 2)[2]
    assert len(secret) >= 43
    row = ApiKey.objects.filter(pk=key.pk).values_list()[0]
    assert not any(secret in str(value) for value in row)


def test_two_keys_are_never_alike(owner: User) -> None:
    keys = {make(owner)[1] for _ in range(20)}
    assert len(keys) == 20


def test_a_taken_prefix_is_not_taken_twice(owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    letters = iter("a" * 8 + "a" * 8 + "b" * 8)
    monkeypatch.setattr("accounts.services.secrets.choice", lambda _: next(letters))
    assert make(owner)[0].prefix == "aaaaaaaa"
    assert make(owner)[0].prefix == "bbbbbbbb"


def test_a_wrong_secret_does_not_open(owner: User) -> None:
    _, raw = make(owner)
    other = raw[:-1] + ("a" if raw[-1] != "a" else "b")
    assert opened_by(other) is None
    assert examine_key(other).reason == "wrong secret"


def test_an_expired_key_does_not_open(owner: User) -> None:
    key, raw = make(owner, expires_at=timezone.now() + IN_AN_HOUR)
    assert opened_by(raw)
    ApiKey.objects.filter(pk=key.pk).update(expires_at=timezone.now())
    assert opened_by(raw) is None
    assert examine_key(raw).reason == "expired"


def test_a_revoked_key_does_not_open_and_stays_in_the_list(owner: User) -> None:
    key, raw = make(owner)
    revoke_key(key)
    assert opened_by(raw) is None
    assert ApiKey.objects.get(pk=key.pk).revoked_at == key.revoked_at


def test_revoking_twice_keeps_the_first_time(owner: User) -> None:
    key, _ = make(owner)
    revoke_key(key)
    first = key.revoked_at
    revoke_key(key)
    assert key.revoked_at == first


def test_the_key_of_a_user_who_left_does_not_open(owner: User) -> None:
    _, raw = make(owner)
    owner.is_active = False
    owner.save()
    assert opened_by(raw) is None


def test_rotating_ends_the_old_secret_and_keeps_the_rest(owner: User) -> None:
    key, old = make(owner, expires_at=timezone.now() + IN_AN_HOUR)
    rotated, new = rotate_key(key, by=owner)
    assert opened_by(old) is None
    assert opened_by(new) == rotated
    assert (rotated.pk, rotated.name, rotated.role) == (key.pk, "laptop", "operator")


def test_a_revoked_key_cannot_be_rotated_or_changed(owner: User) -> None:
    key, _ = make(owner)
    revoke_key(key)
    with pytest.raises(KeyRevoked):
        rotate_key(key, by=owner)
    with pytest.raises(KeyRevoked):
        change_key(key, by=owner, name="new")


@pytest.mark.parametrize("role", ["operator", "admin"])
def test_nobody_makes_a_key_above_their_role(stranger: User, role: str) -> None:
    with pytest.raises(RoleTooHigh):
        make(stranger, role)


def test_an_admin_cannot_lift_others_above_their_role(admin: User, owner: User) -> None:
    with pytest.raises(RoleTooHigh):
        make(owner, "admin", by=admin)
    assert make(owner, "operator", by=admin)[0].user == owner


def test_a_weak_key_makes_no_strong_one(admin: User) -> None:
    weak, _ = make(admin, "operator")
    strong, _ = make(admin, "admin")
    act_by_key(admin, weak)
    with pytest.raises(RoleTooHigh):
        make(admin, "admin")
    with pytest.raises(RoleTooHigh):
        rotate_key(strong, by=admin)
    with pytest.raises(RoleTooHigh):
        change_key(strong, by=admin, name="mine now")
    with pytest.raises(RoleTooHigh):
        change_key(weak, by=admin, role="admin")


def test_a_key_changes_name_role_and_expiry(owner: User) -> None:
    key, _ = make(owner)
    soon = timezone.now() + IN_AN_HOUR
    change_key(key, by=owner, name="desk", role="viewer", expires_at=soon)
    key.refresh_from_db()
    assert (key.name, key.role, key.expires_at) == ("desk", "viewer", soon)
    change_key(key, by=owner, never_expires=True)
    assert key.expires_at is None


@pytest.mark.parametrize("name", ["", "   ", "x" * 101])
def test_a_key_needs_a_name(owner: User, name: str) -> None:
    with pytest.raises(Invalid):
        create_key(user=owner, name=name, role="viewer")


def test_a_key_cannot_expire_in_the_past(owner: User) -> None:
    with pytest.raises(Invalid, match="expires_at"):
        make(owner, expires_at=timezone.now() - IN_AN_HOUR)


def test_an_unknown_role_is_refused(owner: User) -> None:
    with pytest.raises(Invalid, match="role"):
        make(owner, "king")


def test_a_pepper_makes_other_hashes(owner: User, settings: Settings) -> None:
    _, plain = make(owner)
    settings.API_KEY_PEPPER = "p" * 40
    assert opened_by(plain) is None
    _, peppered = make(owner)
    assert opened_by(peppered)


def test_the_last_use_is_written_at_most_once_a_minute(owner: User) -> None:
    key, _ = make(owner)
    note_use(key, "10.0.0.1")
    key.refresh_from_db()
    first = key.last_used_at
    assert key.last_used_address == "10.0.0.1"
    note_use(key, "10.0.0.2")
    key.refresh_from_db()
    assert (key.last_used_at, key.last_used_address) == (first, "10.0.0.1")
    long_ago = timezone.now() - timedelta(minutes=2)
    ApiKey.objects.update(last_used_at=long_ago)
    key.refresh_from_db()
    note_use(key, "10.0.0.2")
    key.refresh_from_db()
    assert key.last_used_address == "10.0.0.2"


@hypothesis_settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
@given(raw=st.text(max_size=200))
def test_no_text_is_a_key(db: None, raw: str) -> None:
    assert opened_by(raw, raw) is None


@hypothesis_settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
@given(text=st.text(st.characters(), max_size=300))
def test_no_bytes_of_a_client_break_the_log(db: None, text: str) -> None:
    row = record_attempt(
        success=False, endpoint=text * 3, method=text, address=text, raw=text, reason=text
    )
    row.refresh_from_db()
    assert "\0" not in row.endpoint + row.reason


def test_something_that_is_no_key_is_not_even_hashed(db: None) -> None:
    row = record_attempt(success=False, endpoint="/", raw="my password")
    assert (row.api_key_hash, row.prefix) == ("", "")


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("", None),
        (None, None),
        ("no address", None),
    ],
)
def test_an_address_is_kept_if_it_is_one(address: str | None, kept: str | None) -> None:
    assert clean_address(address) == kept


def test_the_first_admin_is_made_once(db: None) -> None:
    made = create_first_admin()
    assert made is not None
    user, password, raw = made
    assert user.check_password(password)
    key = opened_by(raw)
    assert key is not None
    assert key.role == "admin"
    assert create_first_admin() is None


def test_no_first_admin_where_somebody_is(owner: User) -> None:
    assert create_first_admin() is None


def test_no_secret_lies_in_any_column(owner: User) -> None:
    key, raw = make(owner)
    note_use(key, None)
    record_attempt(success=True, endpoint="/", raw=raw, user=owner)
    secret = raw.split("_", 2)[2]
    for model in (ApiKey, AuthLog):
        assert secret not in str(list(model.objects.values()))
