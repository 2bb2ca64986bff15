import pytest
from django.test import Client, RequestFactory
from django.urls import reverse

from mlserver.api.negotiation import wants_html


@pytest.mark.parametrize("path", ["echo", "echo/name.with.dots", "auth/keys", "me", "auth/logs"])
def test_both_spellings_answer_alike(api: Client, path: str) -> None:
    assert api.get(f"/api/v1/{path}").status_code == 200
    assert api.get(f"/api/v1/{path}/").status_code == 200


def test_a_post_keeps_its_body_in_both_spellings(api: Client) -> None:
    for path in ("/api/v1/echo", "/api/v1/echo/"):
        response = api.post(path, {"a": 1}, content_type="application/json")
        assert response.json() == {"a": 1}


def test_two_slashes_are_not_found(api: Client) -> None:
    assert api.get("/api/v1/echo//").status_code == 404


def test_the_name_does_not_take_the_slash(api: Client) -> None:
    assert api.get("/api/v1/echo/a/").json() == {"got": {"name": "a"}}


def test_reverse_gives_the_slash() -> None:
    assert reverse("echo-name", args=["a"]) == "/api/v1/echo/a/"


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        ("text/html,application/xhtml+xml,*/*;q=0.8", True),
        ("*/*", False),
        ("", False),
        ("application/json", False),
        ("application/json, text/html;q=0", False),
        ("text/*", False),
        ("text/html;q=0.1", True),
        (";;;,,/", False),
    ],
)
def test_only_who_names_html_gets_a_page(accept: str, html: bool) -> None:
    headers = {"accept": accept} if accept else {}
    assert wants_html(RequestFactory().get("/", headers=headers)) is html
