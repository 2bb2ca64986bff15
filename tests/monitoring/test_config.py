from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

pytestmark = pytest.mark.django_db


def get(client: Client, person: User) -> Any:
    client.force_login(person)
    response = client.get("/api/v1/config")
    assert response.status_code == 200
    return response.json()


def test_everyone_learns_what_can_be_trained_and_how_much(client: Client, stranger: User) -> None:
    body = get(client, stranger)
    names = {field["name"] for field in body["recipes"]["network"]["fields"]}
    assert {"epochs", "learning_rate", "optimizer"} <= names
    assert body["limits"]["max_upload_bytes"] > 0
    assert body["settings"] is None


def test_an_admin_learns_the_settings_without_any_secret(
    client: Client, admin: User, settings: Any
) -> None:
    settings.API_KEY_PEPPER = "pepper-that-nobody-sees"
    settings.DATABASE_URL = "postgres://ann:very-secret@db/mlserver"
    body = get(client, admin)
    assert body["settings"]["VAR_DIR"] == str(settings.VAR_DIR)
    assert body["settings"]["DATABASE"] in ("sqlite3", "postgresql")
    text = client.get("/api/v1/config").content.decode()
    for secret in (settings.SECRET_KEY, settings.API_KEY_PEPPER, "very-secret"):
        assert secret not in text


def test_the_rate_limit_is_null_where_there_is_none(
    client: Client, stranger: User, settings: Any
) -> None:
    settings.RATE_LIMIT_ENABLED = False
    assert get(client, stranger)["limits"]["rate_limit"] is None


def test_it_needs_a_key(client: Client) -> None:
    assert client.get("/api/v1/config").status_code == 401
