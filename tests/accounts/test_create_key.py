"""`manage.py create_key`."""

import io
import json

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from accounts.models import ApiKey
from tests.accounts.keys import opened_by


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("create_key", *arguments, stdout=out)
    return out.getvalue()


def test_it_prints_the_key_and_how_to_use_it(owner: User) -> None:
    text = run("--user", "owner", "--name", "laptop")
    key = ApiKey.objects.get()
    assert f"mls_{key.prefix}_" in text
    assert "curl" in text
    assert key.role == "operator"


def test_as_json_it_prints_one_object(owner: User) -> None:
    made = json.loads(run("--user", "owner", "--name", "ci", "--role", "viewer", "--json"))
    assert opened_by(made["key"])
    assert (made["role"], made["expires_at"]) == ("viewer", None)


def test_a_key_may_expire(owner: User) -> None:
    run("--user", "owner", "--name", "ci", "--expires-days", "3")
    assert ApiKey.objects.get().expires_at is not None


def test_an_unknown_user_ends_with_4_and_names_the_others(owner: User) -> None:
    with pytest.raises(CommandError, match="Users are: owner") as caught:
        run("--user", "ownr", "--name", "x")
    assert caught.value.returncode == 4


@pytest.mark.parametrize(
    "more", [["--role", "admin"], ["--expires-days", "-1"], ["--expires-days", "9999999999"]]
)
def test_a_refusal_ends_with_1(owner: User, more: list[str]) -> None:
    with pytest.raises(CommandError) as caught:
        run("--user", "owner", "--name", "x", *more)
    assert caught.value.returncode == 1
    assert not ApiKey.objects.exists()
