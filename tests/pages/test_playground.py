"""The Playground in Chromium, in front of a whole server with models in memory."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.inference.plane.conftest import Served, served

__all__ = ["served"]  # a fixture
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("playground")]

SIGN_IN = """
import json
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.get(username="viewer"))
print(json.dumps(client.cookies["sessionid"].value))
"""


@pytest.fixture
def page(browser: Browser, served: Served) -> Page:
    context = browser.new_context()
    session = served.django(SIGN_IN)
    context.add_cookies([{"name": "sessionid", "value": session, "url": served.url}])
    return context.new_page()


def test_a_model_answers_from_the_page_as_it_does_from_a_program(
    page: Page, served: Served
) -> None:
    complaints: list[str] = []
    page.on("console", lambda told: complaints.append(told.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{served.url}/playground/?model=small")
    page.get_by_label("Inputs").fill('{"x": [[1, 2, 3, 4]]}')
    page.get_by_role("button", name="Send").click()
    with served.client() as client:
        asked = {"model_name": "small", "inputs": {"x": [[1, 2, 3, 4]]}}
        first, *_ = client.post("/api/v1/predict", json=asked).json()["outputs"]["y"][0]
    expect(page.locator("#answer")).to_contain_text(str(first))
    expect(page.locator("#took")).to_contain_text("computing")
    expect(page.locator("#as-curl")).to_contain_text('"inputs":{"x":[[1,2,3,4]]}')
    assert complaints == []


def test_a_refusal_is_shown_as_the_server_says_it(page: Page, served: Served) -> None:
    page.goto(f"{served.url}/playground/?model=small")
    page.get_by_label("Inputs").fill('{"z": [[1]]}')
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#answer .bad")).to_contain_text("z")
    page.get_by_label("Inputs").fill('{"x": [')
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#answer .bad")).to_contain_text("JSON")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
