"""Tokens for a name and a password: what they open, how long, and who guesses in vain."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import Settings
from rest_framework_simplejwt.token_blacklist.models import OutstandingToken
from rest_framework_simplejwt.tokens import AccessToken

from accounts.models import AuthLog
from accounts.tasks import tidy
from tests import factories

TOKEN = "/api/v1/auth/token"
ME = "/api/v1/me"
PASSWORD = "correct horse"


def post(path: str, **body: Any) -> Any:
    return Client(raise_request_exception=False).post(path, body, "application/json")


def sign_in(username: str = "owner", password: str = PASSWORD) -> dict[str, Any]:
    answer: dict[str, Any] = post(TOKEN, username=username, password=password).json()
    return answer


def ask(token: str, path: str = ME) -> Any:
    return Client(raise_request_exception=False).get(
        path, headers={"authorization": f"Bearer {token}"}
    )


def test_a_token_opens_with_the_role_of_its_person(owner: User) -> None:
    pair = sign_in()
    assert (pair["token_type"], pair["expires_in"]) == ("Bearer", 900)
    assert ask(pair["access"]).json() == {"username": "owner", "role": "operator", "key": None}


def test_a_pair_is_not_kept_by_anyone_on_the_way(owner: User) -> None:
    response = post(TOKEN, username="owner", password=PASSWORD)
    assert response["Cache-Control"] == "no-store"


def test_a_viewers_token_writes_nothing(stranger: User) -> None:
    access = sign_in("stranger")["access"]
    client = Client(headers={"authorization": f"Bearer {access}"})
    assert client.post("/api/v1/auth/keys/", {"name": "x"}, "application/json").status_code == 403


def test_every_use_is_in_the_log(owner: User) -> None:
    ask(sign_in()["access"])
    rows = list(AuthLog.objects.order_by("id").values_list("endpoint", "success", "reason"))
    assert rows == [(TOKEN, True, "token issued"), (ME, True, "token")]


def test_a_refresh_token_opens_nothing_itself(owner: User) -> None:
    assert ask(sign_in()["refresh"]).status_code == 401


def test_refreshing_gives_a_new_pair_and_spends_the_old(owner: User) -> None:
    first = sign_in()
    second = post(f"{TOKEN}/refresh", refresh=first["refresh"]).json()
    assert ask(second["access"]).status_code == 200
    again = post(f"{TOKEN}/refresh", refresh=first["refresh"])
    assert (again.status_code, again.json()["code"]) == (401, "not_authenticated")
    assert post(f"{TOKEN}/refresh", refresh=second["refresh"]).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_refresh_token_is_spent_once_however_many_ask_at_the_same_moment() -> None:
    factories.user("owner")
    old = sign_in()["refresh"]

    def refresh(_: int) -> int:
        try:
            return int(post(f"{TOKEN}/refresh", refresh=old).status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        statuses = sorted(pool.map(refresh, range(4)))
    assert statuses == [200, 401, 401, 401]


def test_verify_says_whether_a_token_would_be_accepted(owner: User) -> None:
    pair = sign_in()
    for half in ("access", "refresh"):
        answer = post(f"{TOKEN}/verify", token=pair[half])
        assert (answer.status_code, answer.json()) == (200, {"valid": True})
    assert post(f"{TOKEN}/verify", token="eyJ.eyJ.x").status_code == 401


def test_a_changed_password_ends_all_tokens(owner: User) -> None:
    pair = sign_in()
    owner.set_password("another horse")
    owner.save()
    assert ask(pair["access"]).status_code == 401
    assert post(f"{TOKEN}/refresh", refresh=pair["refresh"]).status_code == 401
    assert post(f"{TOKEN}/verify", token=pair["refresh"]).status_code == 401


def test_the_token_of_somebody_who_left_opens_nothing(owner: User) -> None:
    access = sign_in()["access"]
    owner.is_active = False
    owner.save()
    assert ask(access).status_code == 401


def test_an_expired_token_opens_nothing(owner: User) -> None:
    token = AccessToken.for_user(owner)
    token.set_exp(from_time=timezone.now() - timedelta(hours=1))
    assert ask(str(token)).status_code == 401


def part(data: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()


def test_a_token_without_a_signature_opens_nothing(owner: User) -> None:
    claims = {"token_type": "access", "user_id": str(owner.pk), "exp": 2**33, "jti": "x"}
    for algorithm in ("none", "None", "HS256"):
        token = f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims)}."
        assert ask(token).status_code == 401


def test_a_token_and_a_key_of_two_people_are_refused(owner: User, teammate: User) -> None:
    client = Client()
    client.force_login(teammate)
    token = sign_in()["access"]
    assert client.get(ME, headers={"authorization": f"Bearer {token}"}).status_code == 401


def test_the_database_holds_no_token(owner: User) -> None:
    pair = sign_in()
    post(f"{TOKEN}/refresh", refresh=pair["refresh"])
    assert set(OutstandingToken.objects.values_list("token", flat=True)) == {""}


def test_expired_ones_are_forgotten(owner: User) -> None:
    sign_in()
    OutstandingToken.objects.update(expires_at=timezone.now() - timedelta(days=1))
    tidy()
    assert not OutstandingToken.objects.exists()


def test_a_wrong_password_and_an_unknown_name_look_the_same(owner: User) -> None:
    wrong = post(TOKEN, username="owner", password="x")
    unknown = post(TOKEN, username="nobody", password="x")
    assert (wrong.status_code, unknown.status_code) == (401, 401)
    assert wrong.json()["detail"] == unknown.json()["detail"]
    assert wrong["WWW-Authenticate"]


def test_guessing_is_stopped_at_the_token_endpoint(owner: User, settings: Settings) -> None:
    for _ in range(settings.AXES_FAILURE_LIMIT):
        post(TOKEN, username="owner", password="guess")
    right = post(TOKEN, username="owner", password=PASSWORD)
    assert (right.status_code, right.json()["code"]) == (429, "locked_out")
    assert int(right["Retry-After"]) == 900
    assert AuthLog.objects.latest("id").reason == "locked out"


def test_guessing_is_stopped_at_the_sign_in_page(owner: User, settings: Settings) -> None:
    client = Client(headers={"accept": "text/html"})
    for _ in range(settings.AXES_FAILURE_LIMIT):
        client.post("/login/", {"username": "owner", "password": "guess"})
    answer = client.post("/login/", {"username": "owner", "password": PASSWORD})
    assert answer.status_code == 429
    assert "wait 15 minutes" in answer.content.decode()
    assert client.post("/admin/login/", {"username": "owner", "password": "x"}).status_code == 429


def test_nobody_locks_somebody_out_from_elsewhere(owner: User, settings: Settings) -> None:
    for _ in range(settings.AXES_FAILURE_LIMIT):
        post(TOKEN, username="owner", password="guess")
    elsewhere = Client(REMOTE_ADDR="10.0.0.9")
    body = {"username": "owner", "password": PASSWORD}
    assert elsewhere.post(TOKEN, body, "application/json").status_code == 200


@pytest.mark.parametrize(
    "body", [{}, {"username": "a"}, {"username": "a", "password": "b", "x": 1}]
)
def test_a_body_that_lacks_something_is_told_what(db: None, body: dict[str, Any]) -> None:
    answer = post(TOKEN, **body)
    assert answer.status_code == 422
    assert answer.json()["errors"]
