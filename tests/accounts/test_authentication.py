"""Coming in: every header, every refusal, and what the log says of it."""

import logging
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from accounts.models import ApiKey, AuthLog
from accounts.services import create_key, revoke_key

ME = "/api/v1/me"
KEYS = "/api/v1/auth/keys/"


@pytest.fixture
def raw(owner: User) -> str:
    return create_key(user=owner, name="laptop", role="operator")[1]


def ask(path: str = ME, **headers: str) -> Any:
    return Client(raise_request_exception=False).get(
        path, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def test_a_bearer_key_comes_in(raw: str) -> None:
    assert ask(authorization=f"Bearer {raw}").json()["username"] == "owner"


def test_a_token_key_comes_in(raw: str) -> None:
    assert ask(authorization=f"Token {raw}").status_code == 200


def test_the_scheme_is_read_in_any_case_and_spacing(raw: str) -> None:
    assert ask(authorization=f"  bEARER   {raw}  ").status_code == 200


def test_a_key_in_its_own_header_comes_in(raw: str) -> None:
    assert ask(x_api_key=raw).status_code == 200


def test_the_same_key_twice_is_one_credential(raw: str) -> None:
    assert ask(authorization=f"Bearer {raw}", x_api_key=raw).status_code == 200


def test_two_different_keys_are_refused(raw: str, owner: User) -> None:
    _, other = create_key(user=owner, name="other", role="viewer")
    assert ask(authorization=f"Bearer {raw}", x_api_key=other).status_code == 401


def test_a_key_and_the_login_of_another_are_refused(raw: str, teammate: User) -> None:
    client = Client()
    client.force_login(teammate)
    assert client.get(ME, headers={"x-api-key": raw}).status_code == 401


def test_a_key_counts_beside_the_login_of_the_same_person(raw: str, owner: User) -> None:
    client = Client()
    client.force_login(owner)
    answer = client.get(ME, headers={"x-api-key": raw}).json()
    assert answer["key"]["name"] == "laptop"


def test_a_browser_comes_in_by_its_login(owner: User) -> None:
    client = Client()
    client.force_login(owner)
    assert client.get(ME).json() == {"username": "owner", "role": "operator", "key": None}


def test_a_browser_must_prove_that_a_write_is_its_own(owner: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner)
    response = client.post(KEYS, {"name": "x"}, content_type="application/json")
    assert response.status_code == 403
    assert "CSRF" in response.json()["detail"]
    assert not ApiKey.objects.exists()


def test_a_key_needs_no_csrf_token(raw: str) -> None:
    client = Client(enforce_csrf_checks=True, headers={"x-api-key": raw})
    assert client.post(KEYS, {"name": "x"}, content_type="application/json").status_code == 201


def test_no_key_is_told_which_header_to_add(db: None) -> None:
    response = ask()
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == 'Bearer realm="mlserver"'
    assert "X-API-Key" in response.json()["detail"]


def test_a_scheme_that_is_not_ours_is_no_key(db: None) -> None:
    assert ask(authorization="Basic YTpi").json()["detail"] == ask().json()["detail"]


def test_all_failures_look_the_same(raw: str, owner: User) -> None:
    expired, expired_raw = create_key(user=owner, name="expired", role="viewer")
    ApiKey.objects.filter(pk=expired.pk).update(expires_at=timezone.now() - timedelta(days=1))
    revoked, revoked_raw = create_key(user=owner, name="revoked", role="viewer")
    revoke_key(revoked)
    bad = [expired_raw, revoked_raw, raw + "x", "mls_unknown1_" + "x" * 43, "nonsense", "", "é"]
    answers = [ask(x_api_key=key) for key in bad]
    bodies = {answer.json()["detail"] for answer in answers}
    assert {answer.status_code for answer in answers} == {401}
    assert all(answer["WWW-Authenticate"] for answer in answers)
    assert len(bodies) == 1


def test_the_log_says_why(raw: str, owner: User) -> None:
    key, revoked_raw = create_key(user=owner, name="revoked", role="viewer")
    revoke_key(key)
    ask(x_api_key=raw)
    ask(x_api_key=revoked_raw)
    ask(x_api_key="nonsense")
    ask(x_api_key=raw, authorization="Bearer other")
    rows = list(AuthLog.objects.order_by("id").values_list("success", "reason", "user__username"))
    assert rows == [
        (True, "", "owner"),
        (False, "revoked", "owner"),
        (False, "not a key", None),
        (False, "two keys", None),
    ]
    row = AuthLog.objects.earliest("id")
    assert (row.endpoint, row.method, row.address) == (ME, "GET", "127.0.0.1")
    assert row.prefix == raw.split("_")[1]


def test_a_key_is_never_written_to_a_log(raw: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = raw.split("_", 2)[2]
    ask(x_api_key=raw)
    ask(x_api_key=raw + "x")
    ask("/api/v1/nothing", x_api_key=raw)
    assert secret not in caplog.text
    assert secret not in str(list(AuthLog.objects.values()))


def test_a_request_costs_few_queries(raw: str, django_assert_max_num_queries: Any) -> None:
    ask(x_api_key=raw)  # the first one also writes the last use
    with django_assert_max_num_queries(3):  # key with user, groups, attempt
        ask(x_api_key=raw)


@hypothesis_settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
@given(
    header=st.sampled_from(["authorization", "x-api-key", "x-request-id", "accept", "cookie"]),
    prefix=st.sampled_from(["", "Bearer ", "Token ", "mls_a_", "Bearer mls_a_"]),
    value=st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=100),
)
def test_no_header_is_answered_with_500(db: None, header: str, prefix: str, value: str) -> None:
    response = Client().get(ME, headers={header: prefix + value})
    assert response.status_code in (401, 406)


def test_a_sign_in_leaves_a_row(owner: User) -> None:
    Client().post("/login/", {"username": "owner", "password": "correct horse"})
    row = AuthLog.objects.get()
    assert (row.success, row.user, row.endpoint) == (True, owner, "/login/")


def test_a_failed_sign_in_leaves_a_row_without_the_password(owner: User) -> None:
    Client().post("/login/", {"username": "owner", "password": "hunter2"})
    Client().post("/login/", {"username": "nobody", "password": "hunter2"})
    first, second = AuthLog.objects.order_by("id")
    assert (first.success, first.user, first.reason) == (False, owner, "wrong password")
    assert (second.success, second.user, second.reason) == (False, None, "unknown user")
    assert "hunter2" not in str(list(AuthLog.objects.values()))
