"""The Playground in Chromium, in front of a whole server with models in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.inference.plane.conftest import Served, serving_models

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("playground")]

MAKE = """
from django.conf import settings
from django.contrib.auth.models import User
from inference.services import Wish, load_model
from tests import factories
from tests.inference.conftest import register, register_onnx
from tests.ml.train.language import make_base

factories.user("viewer", role="viewer")
register_onnx("small")
folder = make_base(settings.MODELS_DIR / "writer" / "v1", "causal", 128)
register(folder, name="writer", framework="transformers", task="causal")
for name in ("small", "writer"):
    load_model(name, User.objects.get(username="admin"), Wish())
print("{}")
"""
SIGN_IN = """
import json
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.get(username="viewer"))
print(json.dumps(client.cookies["sessionid"].value))
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("playground")
    with serving_models(folder, make=MAKE, ready=("small", "writer")) as running:
        yield running


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


def test_a_text_is_shown_as_it_is_written(page: Page, served: Served) -> None:
    page.goto(f"{served.url}/playground/?model=writer")
    page.get_by_label("Prompt").fill("def add")
    page.get_by_label("New tokens").fill("9")
    page.get_by_label("Temperature").fill("0")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#took")).to_contain_text("9 out")
    asked = {"model": "writer", "prompt": "def add", "max_length": 9, "temperature": 0}
    with served.client() as client:
        answer = client.post("/api/v1/inference/generate", json=asked).json()
    assert page.locator("#answer pre").text_content() == answer["generated_code"][0]
    expect(page.locator("#as-curl")).to_contain_text('"max_length":9')
    expect(page.get_by_role("button", name="Stop")).to_be_disabled()

    page.get_by_label("Prompt").fill("long " * 500)
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#answer .bad")).to_contain_text("at most")
