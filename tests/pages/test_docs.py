"""The page of the API's documentation, in a browser, under the strict policy."""

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.pages.conftest import Visit

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
]


def test_swagger_works_without_a_complaint(visit: Callable[..., Visit]) -> None:
    window = visit()
    page = window.open("/docs")
    operation = page.locator("#operations-server-describe_server")
    expect(operation).to_be_visible()
    operation.click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table .microlight").first).to_contain_text("running")
    hosts = {request.url.split("/")[2] for request in window.requests if "//" in request.url}
    assert hosts == {window.server.url.split("/")[2]}
    assert window.complaints == []


def test_redoc_draws_the_whole_document_without_a_complaint(visit: Callable[..., Visit]) -> None:
    window = visit()
    page = window.open("/redoc")
    expect(page.get_by_role("heading", name="What this server is").first).to_be_visible()
    hosts = {request.url.split("/")[2] for request in window.requests if "//" in request.url}
    assert hosts == {window.server.url.split("/")[2]}
    assert window.complaints == []
