"""ALLOW_ANONYMOUS opens areas, and nothing beside them."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from accounts.checks import check_doors
from accounts.models import AuthLog
from tests import factories

MODELS = "/api/v1/models/"


@pytest.fixture(autouse=True)
def _open(db: None, settings: Settings) -> None:
    settings.ALLOW_ANONYMOUS = ["models"]


def test_an_open_area_needs_no_key() -> None:
    assert Client().get(MODELS).status_code == 200


@pytest.mark.parametrize(
    "path", ["me", "datasets/", "sessions/", "auth/keys/", "audit/", "auth/logs"]
)
def test_everything_else_does(path: str) -> None:
    assert Client().get(f"/api/v1/{path}").status_code == 401


def test_it_is_off_unless_the_setting_says_so(settings: Settings) -> None:
    settings.ALLOW_ANONYMOUS = []
    assert Client().get(MODELS).status_code == 401
    assert not User.objects.exists()


def test_a_wrong_key_is_refused_there_too() -> None:
    assert Client(headers={"x-api-key": "wrong"}).get(MODELS).status_code == 401
    assert AuthLog.objects.count() == 1


def test_somebody_without_a_key_changes_nothing_of_others(owner: User) -> None:
    version = factories.model_version(owner=owner)
    refused = Client().delete(f"{MODELS}{version.model.name}")
    assert refused.status_code == 403


def test_a_person_called_anonymous_gives_nobody_their_role() -> None:
    person = factories.user("anonymous", role="admin")
    version = factories.model_version(owner=factories.user("other"))
    assert Client().delete(f"{MODELS}{version.model.name}").status_code == 403
    person.is_active = False
    person.save()
    assert Client().get(MODELS).status_code == 401


def test_who_is_signed_in_stays_who_they_are(owner: User) -> None:
    client = Client()
    client.force_login(owner)
    version = factories.model_version(owner=owner)
    assert client.delete(f"{MODELS}{version.model.name}").status_code == 204


def test_pages_of_other_sites_write_nothing() -> None:
    version = factories.model_version(owner=None)
    path = f"{MODELS}{version.model.name}"
    foreign = Client(headers={"origin": "https://evil.example"}).delete(path)
    assert foreign.status_code == 401
    assert Client(headers={"origin": "http://testserver"}).delete(path).status_code == 403


def test_only_what_may_be_opened_is_accepted(settings: Settings) -> None:
    settings.ALLOW_ANONYMOUS = ["models", "auth"]
    assert [message.id for message in check_doors(None)] == ["mlserver.E011"]
