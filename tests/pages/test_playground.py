"""The Playground in Chromium, in front of a whole server with models in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.inference.plane.conftest import Served, serving_models
from tests.pages.looks import DESK, PHONE, overflow, violations
from tests.waiting import PATIENCE_SECONDS

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("playground")]

MAKE = """
import shutil
from django.conf import settings
from django.contrib.auth.models import User
from inference.services import Wish, load_model
from tests import factories
from tests.inference.conftest import register, register_onnx
from tests.ml.serve.models import write_features
from tests.ml.train.language import make_base

factories.user("viewer", role="viewer")
for name in ("small", "twin", "late"):
    register_onnx(name)
folder = make_base(settings.MODELS_DIR / "writer" / "v1", "causal", 128)
again = shutil.copytree(folder, settings.MODELS_DIR / "author" / "v1")
for folder, name in ((folder, "writer"), (again, "author")):
    register(folder, name=name, framework="transformers", task="causal")
folder = write_features(settings.MODELS_DIR / "moods" / "v1", "text")
register(folder, name="moods", framework="onnx", task="classification")
for name in ("small", "twin", "writer", "author", "moods"):
    load_model(name, User.objects.get(username="admin"), Wish())
print("{}")
"""
SIGN_IN = """
import json
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.get(username="NAME"))
print(json.dumps(client.cookies["sessionid"].value))
"""
Enter = Callable[..., Page]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder, ready = tmp_path_factory.mktemp("playground"), ("small", "twin", "writer", "author")
    with serving_models(folder, make=MAKE, ready=(*ready, "moods")) as running:
        yield running


@pytest.fixture(scope="module")
def sessions(served: Served) -> dict[str, str]:
    """Of who is signed in."""
    return {name: served.django(SIGN_IN.replace("NAME", name)) for name in ("viewer", "admin")}


@pytest.fixture
def enter(browser: Browser, served: Served, sessions: dict[str, str]) -> Iterator[Enter]:
    """`enter("small", "twin", who="viewer", **context)`: the page with these models; at the end
    nothing may have been amiss."""
    complaints: list[str] = []

    def open_page(*models: str, who: str = "viewer", **options: object) -> Page:
        context = browser.new_context(**{"viewport": DESK, **options})  # type: ignore[arg-type]
        context.add_cookies([{"name": "sessionid", "value": sessions[who], "url": served.url}])
        page = context.new_page()
        page.on("console", lambda told: complaints.append(told.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{served.url}/playground/?" + "&".join(f"model={name}" for name in models))
        return page

    yield open_page
    assert [told for told in complaints if "422" not in told and "400" not in told] == []


def column(page: Page, name: str) -> Locator:
    return page.locator(f"[data-model='{name}@1']")


def send(page: Page, label: str, text: str) -> None:
    page.get_by_label(label, exact=True).fill(text)
    page.get_by_role("button", name="Send").click()


def run(command: list[str], served: Served, folder: Path) -> str:
    """What somebody gets who pastes it."""
    done = subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "KEY": served.stack.key},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    return done.stdout


def test_models_answer_from_the_page_as_they_do_from_a_program(
    enter: Enter, served: Served, tmp_path: Path
) -> None:
    page = enter("small", "twin")
    send(page, "Inputs", '{"x": [[1, 2, 3, 4]]}')
    for name in ("small", "twin"):
        with served.client() as client:
            asked = {"model_name": name, "inputs": {"x": [[1, 2, 3, 4]]}}
            first, *_ = client.post("/api/v1/predict", json=asked).json()["outputs"]["y"][0]
        expect(column(page, name).locator(".said")).to_contain_text(str(first))
        expect(column(page, name).locator(".took")).to_contain_text("computing")
    # What the page says that a program sends is what a program may send.
    printed = run(["bash", "-c", page.locator("#as-curl").inner_text()], served, tmp_path)
    assert (printed.count('"success":true'), printed.count(str(first))) == (2, 2)
    code = page.locator("#as-python").inner_text()
    lines = run([sys.executable, "-c", code], served, tmp_path).splitlines()
    assert [str(first) in line for line in lines] == [True, True]


def test_a_refusal_is_shown_as_the_server_says_it(enter: Enter) -> None:
    page = enter("small")
    bad = column(page, "small").locator(".bad")
    send(page, "Inputs", '{"z": [[1]]}')
    expect(bad).to_contain_text("z")
    send(page, "Inputs", '{"x": [')
    expect(bad).to_contain_text("JSON")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()


def test_texts_are_shown_as_they_are_written_side_by_side(
    enter: Enter, served: Served, tmp_path: Path
) -> None:
    page = enter("writer", "author")
    page.get_by_label("New tokens").fill("9")
    page.get_by_label("Temperature").fill("0")
    send(page, "Prompt", "def add\n'\"")
    asked = {"prompt": "def add\n'\"", "max_length": 9, "temperature": 0, "top_p": 0.95}
    with served.client() as client:
        answer = client.post("/api/v1/inference/generate", json={"model": "writer", **asked}).json()
    for name in ("writer", "author"):
        took = column(page, name).locator(".took")
        expect(took).to_contain_text("9 out")
        expect(took).to_contain_text(f"{answer['usage']['prompt_tokens']} tokens in")
        assert column(page, name).locator("pre").text_content() == answer["generated_code"][0]
        expect(column(page, name)).to_have_attribute("aria-busy", "false")
    expect(page.get_by_role("button", name="Stop")).to_be_disabled()
    curl, _ = page.locator("#as-curl").inner_text().split("\n\n")
    told = json.loads(run(["bash", "-c", curl], served, tmp_path))
    assert (told["completions"], told["model_name"]) == (answer["completions"], "writer@1")

    send(page, "Prompt", "long " * 500)
    for name in ("writer", "author"):
        expect(column(page, name).locator(".bad")).to_contain_text("at most")


def test_the_bars_have_the_names_that_the_worker_tells(enter: Enter) -> None:
    page = enter("moods")
    send(page, "body", "good and kind")
    said = column(page, "moods").locator(".said")
    expect(said.locator(".answer")).to_have_text("no")
    expect(said.locator("dt")).to_have_text(["no", "yes"])


def test_what_was_asked_stays_in_this_browser_until_it_is_forgotten(enter: Enter) -> None:
    page = enter("small")
    asked = [f'{{"x": [[{number}, 0, 0, 0]]}}' for number in range(3)]
    for text in (*asked, asked[0]):
        send(page, "Inputs", text)
        expect(column(page, "small")).to_have_attribute("aria-busy", "false")
    page.reload()
    entries = page.locator("#history li")
    page.get_by_text("Asked before").click()
    expect(entries).to_have_count(3)
    expect(entries.first).to_contain_text(asked[0])  # asked again: once, and the newest
    entries.last.get_by_role("button").click()
    expect(page.get_by_label("Inputs")).to_have_value(asked[1])
    expect(page.locator("#as-curl")).to_contain_text("[[1,0,0,0]]")

    page.goto(page.url.replace("small", "writer"))  # another form: another history
    expect(page.locator("#history li")).to_have_count(0)
    page.go_back()
    page.get_by_text("Asked before").click()
    page.get_by_role("button", name="Forget all").click()
    expect(entries).to_have_count(0)
    assert page.evaluate("Object.values(localStorage)") == ["[]"]


def test_never_more_is_kept_than_there_is_room_for(enter: Enter) -> None:
    page = enter("small")
    kept = "JSON.parse(localStorage.getItem('asked by viewer')).length"
    old = [{"at": n, "kind": "tensors", "typed": {"inputs": str(n)}} for n in range(99)]
    page.evaluate("old => localStorage.setItem('asked by viewer', JSON.stringify(old))", old)
    send(page, "Inputs", "[[1, 2, 3, 4]]")
    assert page.evaluate(kept) == 40
    send(page, "Inputs", f'[["{"9" * 190_000}"]]')
    assert page.evaluate(kept) == 40
    send(page, "Inputs", f'[["{"8" * 190_000}"]]')
    assert page.evaluate(kept) == 1


def test_a_model_that_is_loaded_is_followed_until_it_answers(enter: Enter) -> None:
    page = enter("small", "late", who="admin")
    expect(column(page, "small")).to_be_visible()
    page.get_by_role("button", name="Load late").click()
    loads: list[str] = []
    page.on("load", lambda page: loads.append(page.url))
    expect(column(page, "late")).to_be_visible()
    expect(page.locator("#waiting")).to_be_empty()
    expect(page.locator("[data-poll]")).to_have_count(0)
    assert len(loads) <= 2  # that of the redirect, and the page with its form


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_the_page_is_without_complaint_before_and_after(
    enter: Enter, theme: str, size: dict[str, int]
) -> None:
    page = enter("writer", "author", viewport=size, color_scheme=theme)
    assert violations(page) == []
    send(page, "Prompt", "def add(one, other, and, another, and, the, next):")
    for name in ("writer", "author"):
        expect(column(page, name).locator(".took")).to_contain_text("s in all")
    page.get_by_text("Asked before").click()
    assert violations(page) == []
    assert overflow(page) <= 0
