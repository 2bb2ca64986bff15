from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from accounts.models import AuthLog
from accounts.services import record_attempt


@pytest.fixture(autouse=True)
def attempts(owner: User, teammate: User) -> None:
    for number in range(5):
        record_attempt(success=number % 2 == 0, endpoint=f"/page/{number}", user=owner)
    record_attempt(success=True, endpoint="/other", user=teammate)


def ask(api: Client, **query: Any) -> dict[str, Any]:
    response = api.get("/api/v1/attempts", query)
    assert response.status_code == 200, response.content
    body: dict[str, Any] = response.json()
    return body


def pages(body: dict[str, Any]) -> list[str]:
    return [row["endpoint"] for row in body["results"] if row["endpoint"].startswith("/page")]


def refused(api: Client, **query: Any) -> dict[str, Any]:
    response = api.get("/api/v1/attempts", query)
    assert response.status_code == 422, response.content
    (error,) = response.json()["errors"]
    return dict(error)


def test_a_list_has_results_total_skip_and_limit(api: Client) -> None:
    body = ask(api, user="owner", search="page")
    assert {key: body[key] for key in ("total", "skip", "limit")} == {
        "total": 5,
        "skip": 0,
        "limit": 100,
    }
    assert len(body["results"]) == 5


def test_skip_and_limit_cut_a_page(api: Client) -> None:
    body = ask(api, search="page", ordering="endpoint", skip=1, limit=2)
    assert pages(body) == ["/page/1", "/page/2"]
    assert body["total"] == 5


def test_a_page_behind_the_end_is_empty(api: Client) -> None:
    assert ask(api, search="page", skip=10**12)["results"] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("skip", "-1"),
        ("skip", "9" * 30),
        ("limit", "0"),
        ("limit", "1001"),
        ("limit", "ten"),
        ("limit", "1_0"),
        ("limit", "١٠"),
        ("limit", ""),
        ("limit", "1.5"),
    ],
)
def test_a_number_out_of_range_names_the_parameter(api: Client, name: str, value: str) -> None:
    error = refused(api, **{name: value})
    assert error["field"] == name
    assert error["value"] == value


def test_it_is_ordered_as_asked_or_as_declared(api: Client) -> None:
    assert pages(ask(api, search="page", ordering="endpoint"))[0] == "/page/0"
    assert pages(ask(api, search="page", ordering="-endpoint"))[0] == "/page/4"
    assert pages(ask(api, search="page"))[0] == "/page/4"


def test_an_unknown_order_is_refused(api: Client) -> None:
    error = refused(api, ordering="endpiont")
    assert error["field"] == "ordering"
    assert "endpoint" in error["message"]


def test_filters_are_exact_and_may_be_repeated(api: Client) -> None:
    assert ask(api, search="page", success="false")["total"] == 2
    assert ask(api, search="page", success=["false", "true"])["total"] == 5
    assert ask(api, user="teammate")["total"] == 1
    assert ask(api, user="nobody")["total"] == 0


@pytest.mark.parametrize(("name", "value"), [("success", "maybe"), ("number", "abc")])
def test_a_value_that_cannot_be_is_refused(api: Client, name: str, value: str) -> None:
    assert refused(api, **{name: value})["field"] == name


def test_a_number_beyond_the_database_finds_nothing(api: Client) -> None:
    assert ask(api, number="9" * 40)["total"] == 0


def test_an_unknown_parameter_is_refused_with_a_suggestion(api: Client) -> None:
    error = refused(api, sucess="true")
    assert error["message"] == "unknown parameter 'sucess', did you mean 'success'?"


def test_search_takes_wildcards_literally(api: Client) -> None:
    assert ask(api, search="%")["total"] == 0


def test_it_asks_the_database_a_fixed_number_of_times(
    api: Client, django_assert_max_num_queries: Any
) -> None:
    for number in range(30):
        record_attempt(success=True, endpoint=f"/more/{number}")
    api.get("/api/v1/auth/logs")
    with django_assert_max_num_queries(5):  # key, groups, attempt, count, rows
        api.get("/api/v1/auth/logs")
    assert AuthLog.objects.count() > 30
