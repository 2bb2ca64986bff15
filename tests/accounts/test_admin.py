"""Keys and attempts in Django's admin."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from accounts.models import ApiKey, AuthLog
from accounts.services import create_key, record_attempt
from tests.accounts.keys import opened_by


@pytest.fixture
def desk(admin: User) -> Client:
    client = Client()
    client.force_login(admin)
    return client


@pytest.mark.parametrize("model", ["apikey", "authlog"])
def test_rows_are_shown_without_their_hash_and_cannot_be_changed(
    desk: Client, owner: User, model: str
) -> None:
    key, raw = create_key(user=owner, name="laptop", role="viewer")
    attempt = record_attempt(success=True, endpoint="/", raw=raw, user=owner)
    pk = key.pk if model == "apikey" else attempt.pk
    for path in ("", f"{pk}/change/"):
        response = desk.get(f"/admin/accounts/{model}/{path}")
        assert response.status_code == 200
        assert key.hash not in response.content.decode()
    assert desk.get(f"/admin/accounts/{model}/add/").status_code == 403
    assert desk.post(f"/admin/accounts/{model}/{pk}/delete/", {"post": "yes"}).status_code == 403


def test_keys_are_revoked_there(desk: Client, owner: User) -> None:
    key, raw = create_key(user=owner, name="laptop", role="viewer")
    desk.post("/admin/accounts/apikey/", {"action": "revoke", "_selected_action": [key.pk]})
    assert opened_by(raw) is None
    assert ApiKey.objects.count() == 1
    assert AuthLog.objects.filter(success=False).count() == 0


def test_somebody_who_may_only_look_revokes_nothing(owner: User, stranger: User) -> None:
    from django.contrib.auth.models import Permission

    stranger.is_staff = True
    stranger.save()
    stranger.user_permissions.add(Permission.objects.get(codename="view_apikey"))
    key, raw = create_key(user=owner, name="laptop", role="viewer")
    client = Client()
    client.force_login(stranger)
    client.post("/admin/accounts/apikey/", {"action": "revoke", "_selected_action": [key.pk]})
    assert opened_by(raw)
