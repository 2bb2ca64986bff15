"""People who come in by a key, to the little server of tests.api.urls."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from accounts.services import create_key


@pytest.fixture(autouse=True)
def _little_server(settings: Settings) -> None:
    settings.ROOT_URLCONF = "tests.api.urls"


def client_for(user: User, role: str = "operator") -> Client:
    _, raw = create_key(user=user, name="test", role=role)
    return Client(headers={"authorization": f"Bearer {raw}"}, raise_request_exception=False)


@pytest.fixture
def api(owner: User) -> Client:
    return client_for(owner)
