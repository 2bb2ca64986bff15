"""Every page in Chromium: both themes, desk and phone, nothing amiss."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from jobs.models import LogLine, State
from tests import factories
from tests.pages.conftest import Visit
from tests.pages.looks import DESK, HOSTILE, PHONE, is_light, is_live, overflow, violations
from tests.pages.scene import build_scene, sample_host

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    # Django leaves the (empty) body of a stream open when the server stops under it.
    pytest.mark.filterwarnings("ignore:Unclosed file <tempfile.Spooled:ResourceWarning"),
]

Open = Callable[..., Visit]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_every_page_is_without_complaint(
    visit: Open, owner: User, theme: str, size: dict[str, int]
) -> None:
    paths = build_scene(owner).paths
    window = visit(owner, viewport=size, color_scheme=theme)
    for path in paths:
        page = window.open(path)
        is_live(page)
        assert overflow(page) <= 0, path
        assert violations(page) == [], path
    assert window.complaints == []


def test_the_sign_in_page_is_without_complaint(visit: Open, owner: User) -> None:
    window = visit(viewport=PHONE)
    page = window.open("/login/")
    assert violations(page) == []
    page.get_by_label("Name").fill("owner")
    page.get_by_label("Password").fill("correct horse")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    assert window.complaints == []


def test_an_empty_server_says_the_next_command(visit: Open, owner: User) -> None:
    window = visit(owner)
    for path, words in {
        "/": "The sampler has not run yet",
        "/sessions/": "No training yet",
        "/sessions/new/": "no dataset to learn from yet",
        "/datasets/": "No dataset yet",
        "/models/": "No model yet",
    }.items():
        page = window.open(path)
        assert words in page.inner_text("main")
        assert violations(page) == [], path
    assert "curl" in page.inner_text("main")
    assert window.complaints == []


def test_gpus_have_their_readings_and_a_reason_where_there_is_none(
    visit: Open, owner: User
) -> None:
    sample_host(gpu=True)
    page = visit(owner).open("/")
    card = page.locator("[data-gpu]")
    assert "61.0 / 80.0 GiB" in card.inner_text()
    assert card.get_by_title("not supported by this driver").inner_text().startswith("–")


def test_without_a_gpu_the_page_says_why(visit: Open, owner: User) -> None:
    sample_host()
    assert "No NVIDIA driver found" in visit(owner).open("/").inner_text("main")


def test_a_page_stays_within_its_weight(visit: Open, owner: User) -> None:
    scene = build_scene(owner)
    window = visit(owner)
    for path in ("/", f"/sessions/new/?dataset={scene.dataset}", f"/sessions/{scene.running.pk}/"):
        page = window.open(path)
        is_live(page)
        is_light(window)


def test_without_script_every_page_has_its_numbers_and_its_way_on(visit: Open, owner: User) -> None:
    scene = build_scene(owner)
    window = visit(owner, java_script_enabled=False, viewport=PHONE)
    text = window.open("/").inner_text("main")
    assert "29.1 %" in text
    assert "0.500" in text
    page = window.open(f"/sessions/{scene.running.pk}/")
    assert "best 0.500 in epoch 4" in page.inner_text("main")
    assert overflow(page) <= 0
    page.get_by_role("link", name="Datasets").click()
    expect(page.locator("main")).to_contain_text("flowers")


def test_names_from_strangers_are_text_on_every_page(visit: Open, owner: User) -> None:
    version = factories.dataset_version(name=HOSTILE, owner=owner)
    version.schema["columns"][0]["name"] = HOSTILE
    version.save()
    model = factories.model_version(name=HOSTILE, owner=owner, lineage={HOSTILE: HOSTILE})
    session = factories.session(
        owner=owner,
        name=HOSTILE,
        dataset_version=version,
        state=State.FAILED,
        error=HOSTILE,
        produced=model,
    )
    LogLine.objects.create(job=session.job, message=HOSTILE, level="error")
    factories.session(owner=owner, name=HOSTILE, dataset_version=version, state=State.RUNNING)
    window = visit(owner)
    for path in ("/", "/sessions/", f"/sessions/{session.pk}/", "/datasets/", "/models/"):
        page = window.open(path)
        assert HOSTILE in page.inner_text("main"), path
        assert page.title() != "owned"
    page.get_by_role("link", name=HOSTILE).first.click()
    expect(page.locator("h1")).to_have_text(HOSTILE)
    assert page.locator("img").count() == 0
    page = window.open("/datasets/")
    page.get_by_role("link", name=HOSTILE).first.click()
    expect(page.locator("h1")).to_have_text(HOSTILE)
    assert window.complaints == []


def test_a_chosen_theme_stays(visit: Open, owner: User) -> None:
    page = visit(owner, color_scheme="light").open("/")
    page.get_by_label("Theme").select_option("dark")
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).colorScheme") == "dark"


def test_the_menu_opens_on_a_phone(visit: Open, owner: User) -> None:
    page = visit(owner, viewport=PHONE).open("/")
    expect(page.get_by_role("navigation", name="Main")).to_be_hidden()
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("link", name="Models").click()
    expect(page.locator("h1")).to_have_text("Models")


def test_a_training_is_started_and_cancelled_with_the_keyboard_alone(
    visit: Open, owner: User
) -> None:
    scene = build_scene(owner)
    page = visit(owner).open("/sessions/new/")
    press = page.keyboard.press
    press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to content")
    press("Enter")
    press("Tab")  # the breadcrumb
    press("Tab")
    expect(page.get_by_label("Dataset")).to_be_focused()
    page.keyboard.type("flow")
    expect(page.get_by_label("Dataset")).to_have_value(str(scene.dataset))
    expect(page.get_by_text("120 to learn, 30 to measure")).to_be_visible()
    for _ in range(40):
        press("Tab")
        if page.locator("#start:focus").count():
            break
    press("Enter")
    expect(page.locator(".head .state")).to_have_text("queued")
    for _ in range(30):
        press("Tab")
        if page.locator("[data-dialog=cancel-dialog]:focus").count():
            break
    press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    press("Tab")
    expect(page.locator(":focus")).to_have_text("Cancel training")
    press("Enter")
    expect(page.locator(".head .state")).to_have_text("cancelled")


def test_a_wrong_value_shows_before_anything_starts(visit: Open, owner: User) -> None:
    scene = build_scene(owner)
    page = visit(owner).open(f"/sessions/new/?dataset={scene.dataset}")
    page.get_by_label("Learning rate").fill("-1")
    expect(page.locator("#result")).to_contain_text("learning_rate must be greater than 0")
    page.get_by_label("Learning rate").fill("0.01")
    expect(page.locator("#result")).to_contain_text('"learning_rate": 0.01')
    expect(page.locator("#result")).not_to_contain_text("must be greater")
    expect(page.get_by_label("Learning rate")).to_be_focused()


def test_sessions_are_compared_once_some_are_chosen(visit: Open, owner: User) -> None:
    scene = build_scene(owner)
    page = visit(owner).open("/sessions/")
    button = page.get_by_role("button", name="Compare the chosen")
    expect(button).to_be_hidden()
    for session in (scene.completed, scene.running):
        page.get_by_label(f"Compare {session.title}").check()
        expect(button).to_be_visible()
    button.click()
    expect(page.locator("h1")).to_contain_text("Compar")


def test_searching_as_one_types_keeps_the_address_and_the_focus(visit: Open, owner: User) -> None:
    build_scene(owner)
    page = visit(owner).open("/sessions/")
    page.get_by_label("Search sessions").type("wide")
    expect(page.locator("#sessions tbody tr")).to_have_count(1)
    expect(page).to_have_url(re.compile("q=wide"))
    expect(page.get_by_label("Search sessions")).to_be_focused()
