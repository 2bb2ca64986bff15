import logging
from typing import Any

import pytest
from django.test import Client

FIELDS = {"type", "title", "status", "detail", "code", "errors", "request_id"}


def problem(response: Any, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert response.status_code == status, body
    assert response["Content-Type"] == "application/problem+json"
    assert set(body) == FIELDS
    assert (body["status"], body["code"]) == (status, code)
    assert body["detail"].strip()
    assert body["request_id"] == response["X-Request-ID"]
    return body


def post(api: Client, path: str, body: Any) -> Any:
    return api.post(f"/api/v1/{path}", body, content_type="application/json")


@pytest.mark.parametrize("door", ["/api/v1/raise", "/plain"])
@pytest.mark.parametrize(
    ("what", "status", "code"),
    [
        ("conflict", 409, "already_running"),
        ("invalid", 422, "invalid"),
        ("unavailable", 503, "unavailable"),
        ("no-space", 507, "no_space"),
        ("404", 404, "not_found"),
        ("403", 403, "forbidden"),
        ("locked", 503, "unavailable"),
        ("bug", 500, "server_error"),
    ],
)
def test_every_error_has_the_same_body_at_every_door(
    api: Client, door: str, what: str, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    response = api.get(f"{door}/{what}")
    problem(response, status, code)
    assert b"hunter2" not in response.content
    assert b"secret path" not in response.content


def test_the_fields_of_an_app_error_are_listed(api: Client) -> None:
    body = problem(api.get("/api/v1/raise/invalid"), 422, "invalid")
    assert body["errors"] == [{"field": "epochs", "message": "too few", "code": "low", "value": 0}]


def test_a_database_that_does_not_answer_is_asked_again_later(api: Client) -> None:
    assert int(api.get("/api/v1/raise/locked")["Retry-After"]) > 0
    assert int(api.get("/plain/locked")["Retry-After"]) > 0


def test_an_error_inside_is_logged_with_its_cause(
    api: Client, caplog: pytest.LogCaptureFixture
) -> None:
    api.get("/api/v1/raise/bug")
    assert "hunter2" in caplog.text


def test_an_unknown_path_is_not_found(api: Client) -> None:
    assert "/api/v1/nothing" in problem(api.get("/api/v1/nothing"), 404, "not_found")["detail"]


def test_an_unknown_path_is_a_page_for_a_browser(api: Client) -> None:
    response = api.get("/nothing", headers={"accept": "text/html,*/*;q=0.8"})
    assert response.status_code == 404
    assert response["Content-Type"].startswith("text/html")


def test_an_api_path_is_a_problem_for_a_browser_too(api: Client) -> None:
    response = api.get("/api/v1/nothing", headers={"accept": "text/html"})
    problem(response, 404, "not_found")


def test_a_page_that_raises_shows_a_page(api: Client) -> None:
    response = api.get("/plain/conflict", headers={"accept": "text/html"})
    assert response.status_code == 409
    assert "It runs already." in response.content.decode()


def test_a_wrong_method_names_the_right_ones(api: Client) -> None:
    response = api.delete("/api/v1/echo")
    problem(response, 405, "method_not_allowed")
    assert "POST" in response["Allow"]


def test_a_wrong_media_type_is_refused(api: Client) -> None:
    problem(api.post("/api/v1/echo", {"a": 1}), 415, "unsupported_media_type")


def test_a_body_over_the_limit_is_too_large(api: Client, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    problem(post(api, "echo", "[" + "1," * 600 + "1]"), 413, "too_large")


def test_a_host_that_is_not_ours_is_told_the_setting(api: Client, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["ours.example"]
    body = problem(api.get("/api/v1/", headers={"host": "theirs.example"}), 400, "malformed")
    assert "ALLOWED_HOSTS" in body["detail"]


@pytest.mark.parametrize("path", ["/api/v1/echo/a%00b", "/api/v1/echo?x=%00", "/plain/%00"])
def test_a_nul_in_the_address_is_refused(api: Client, path: str) -> None:
    problem(api.get(path), 400, "malformed")


def test_validation_errors_are_flat_with_dotted_names_and_what_was_sent(api: Client) -> None:
    sent = {"name": "x" * 30, "config": {"epochs": 0}, "items": [1, "two"]}
    body = problem(post(api, "checked", sent), 422, "invalid")
    found = {error["field"]: (error["code"], error["value"]) for error in body["errors"]}
    assert found == {
        "name": ("max_length", "x" * 30),
        "config.epochs": ("min_value", 0),
        "items.1": ("invalid", "two"),
    }
    assert all(field in body["detail"] for field in found)


def test_a_single_validation_error_is_the_sentence(api: Client) -> None:
    body = problem(post(api, "checked", {}), 422, "invalid")
    assert body["detail"] == "name: This field is required."


def test_a_secret_is_never_echoed(api: Client) -> None:
    response = post(api, "checked", {"name": "a", "password": "hunter2"})
    problem(response, 422, "invalid")
    assert b"hunter2" not in response.content


def test_a_long_value_is_echoed_short(api: Client) -> None:
    body = problem(post(api, "checked", {"name": "x" * 5000}), 422, "invalid")
    assert len(body["errors"][0]["value"]) <= 201


def test_a_list_where_an_object_belongs_is_invalid(api: Client) -> None:
    problem(post(api, "checked", "[1]"), 422, "invalid")
