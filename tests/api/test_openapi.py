"""The document of the whole server, and the page that shows it."""

import io
from functools import cache
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import resolve
from drf_spectacular.generators import SchemaGenerator
from pytest_django import Settings

from mlserver.api.root import unknown_endpoint

METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(autouse=True)
def _whole_server(settings: Settings, _little_server: None) -> None:
    settings.ROOT_URLCONF = "mlserver.urls"


@cache
def read_document() -> dict[str, Any]:
    generator: Any = SchemaGenerator(urlconf="mlserver.urls")  # type: ignore[no-untyped-call]
    document: dict[str, Any] = generator.get_schema(request=None, public=True)
    return document


@pytest.fixture
def document() -> dict[str, Any]:
    return read_document()


def test_it_is_made_without_a_warning_and_is_valid() -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=io.StringIO())


def test_every_operation_says_how_it_refuses(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for method in METHODS & operations.keys():
            responses = operations[method]["responses"]
            assert "503" in responses, f"{method} {path}"
            if operations[method].get("security"):
                assert "401" in responses, f"{method} {path}"


def test_a_problem_is_described(document: dict[str, Any]) -> None:
    problem = document["components"]["schemas"]["Problem"]
    assert set(problem["required"]) == set(problem["example"])


def test_the_ways_in_are_described(document: dict[str, Any]) -> None:
    schemes = document["components"]["securitySchemes"]
    assert schemes["bearer"]["scheme"] == "bearer"
    assert schemes["header"]["name"] == "X-API-Key"


def test_lists_say_what_may_be_asked(document: dict[str, Any]) -> None:
    parameters = document["paths"]["/api/v1/auth/logs/"]["get"]["parameters"]
    names = {parameter["name"] for parameter in parameters}
    assert {"skip", "limit", "ordering", "search", "success"} <= names


def test_no_path_has_two_slashes(document: dict[str, Any]) -> None:
    assert not [path for path in document["paths"] if "//" in path]


@pytest.mark.parametrize("path", ["/docs", "/docs/", "/openapi.json", "/api/v1", "/api/v1/"])
def test_the_documents_need_no_key(db: None, path: str) -> None:
    assert Client().get(path, headers={"x-api-key": "wrong"}).status_code == 200


def test_the_docs_have_nothing_inline(db: None) -> None:
    page = Client().get("/docs").content.decode()
    assert "<style" not in page
    assert "<script>" not in page


def test_programs_learn_at_the_root_what_this_is(db: None) -> None:
    answers = [Client().get(path).json() for path in ("/", "/api/v1/")]
    assert answers[0] == answers[1]
    assert {"name", "version", "status", "docs", "openapi", "health"} <= answers[0].keys()


def test_an_unknown_endpoint_is_a_problem_whatever_the_version(db: None) -> None:
    # A route of its own, so that DEBUG does not answer a program with a page about routes.
    assert resolve("/api/v2/nothing").func is unknown_endpoint
    response = Client().get("/api/v2/nothing")
    assert response.status_code == 404
    assert response["Content-Type"] == "application/problem+json"
