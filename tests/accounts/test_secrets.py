"""Keys, passwords and tokens are in no table, log, metric or admin page."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin as django_admin
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.core import serializers
from django.test import Client
from pytest_django import Settings

from accounts.environment import sync_environment_keys
from accounts.services import create_key, rotate_key
from tests import factories

ENVIRONMENT_KEY = "from-the-environment-0123456789"
PASSWORD, GUESS = "a-password-that-is-right-9137", "a-password-that-is-wrong-5208"
JSON = "application/json"


def come_and_go(settings: Settings) -> list[str]:
    """Everything that somebody may do with secrets; all of these."""
    settings.API_KEYS = ENVIRONMENT_KEY
    sync_environment_keys()
    person = factories.user("ann", password=PASSWORD)
    key, first = create_key(user=person, name="laptop", role="operator")
    _, second = rotate_key(key, by=person, overlap_seconds=3600)
    secrets = [ENVIRONMENT_KEY, PASSWORD, GUESS, first.split("_", 2)[2], second.split("_", 2)[2]]
    for raw in (first, second, ENVIRONMENT_KEY, second[:-4] + "xxxx"):
        for headers in ({"authorization": f"Bearer {raw}"}, {"x-api-key": raw}):
            Client().get("/api/v1/me", headers=headers)
    for password in (GUESS, PASSWORD):
        Client().post("/login/", {"username": "ann", "password": password})
        Client().post("/admin/login/", {"username": "ann", "password": password})
    return secrets + _tokens()


def _tokens() -> list[str]:
    path = "/api/v1/auth/token"
    Client().post(path, {"username": "ann", "password": GUESS}, JSON)
    pair = Client().post(path, {"username": "ann", "password": PASSWORD}, JSON).json()
    Client().get("/api/v1/me", headers={"authorization": f"Bearer {pair['access']}"})
    again = Client().post(f"{path}/refresh", {"refresh": pair["refresh"]}, JSON).json()
    Client().post(f"{path}/refresh", {"refresh": pair["refresh"]}, JSON)
    Client().post(f"{path}/verify", {"token": again["access"]}, JSON)
    return [pair["access"], pair["refresh"], again["access"], again["refresh"]]


def found_in(text: str, secrets: list[str]) -> list[str]:
    return [secret[:12] for secret in secrets if secret in text]


def test_no_table_holds_a_secret(db: None, settings: Settings) -> None:
    secrets = come_and_go(settings)
    for model in apps.get_models():
        rows = serializers.serialize("json", model._default_manager.all())
        assert not found_in(rows, secrets), model


def test_no_log_line_holds_a_secret(
    db: None, settings: Settings, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = come_and_go(settings)
    printed = capfd.readouterr()
    assert caplog.text
    assert not found_in(caplog.text + printed.out + printed.err, secrets)


def test_no_answer_but_the_first_holds_a_secret(admin: User, settings: Settings) -> None:
    secrets = come_and_go(settings)
    client = Client()
    client.force_login(admin)
    paths = ["/api/v1/auth/keys/", "/api/v1/auth/logs/", "/api/v1/audit/", "/api/v1/config"]
    pages = ["/metrics", "/settings/keys/", "/settings/log/", "/audit/"]
    for path in paths + pages:
        answer = client.get(path)
        assert answer.status_code == 200, path
        text = answer.content.decode()
        assert not found_in(text, [*secrets, settings.SECRET_KEY]), path
        assert "hash" not in text or not path.startswith("/api/v1/auth"), path


def test_no_admin_page_holds_a_secret_or_a_hash(admin: User, settings: Settings) -> None:
    secrets = come_and_go(settings)
    hashes: list[str] = [
        str(value)
        for model in (apps.get_model("accounts.ApiKey"), apps.get_model("accounts.AuthLog"))
        for row in model._default_manager.values()
        for name, value in row.items()
        if "hash" in name and value
    ]
    client = Client()
    client.force_login(admin)
    for model in django_admin.site._registry:
        base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        rows = list(model._default_manager.all()[:5])
        for path in (base, *(f"{base}{quote(str(row.pk))}/change/" for row in rows)):
            text = client.get(path).content.decode()
            assert not found_in(text, secrets + hashes), path
