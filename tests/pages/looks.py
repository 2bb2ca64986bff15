"""What a test wants to know of a page that Chromium shows."""

from __future__ import annotations

import gzip
import re

from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from playwright.sync_api import Page, expect

from tests.pages.conftest import Visit

DESK, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
HOSTILE = "<img src=x onerror=\"document.title='owned'\">{{7*7}}"
MOST_REQUESTS = 12
MOST_BYTES = 60 * 1024


def is_live(page: Page) -> None:
    """Waits until the page has its stream; without a sampler it soon says how old its data is."""
    expect(page.locator("#live")).to_have_attribute("data-state", re.compile("^(live|late)$"))


def overflow(page: Page) -> int:
    """How many pixels the page is wider than the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))


def violations(page: Page) -> list[str]:
    """What axe finds that keeps somebody from using the page."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['html']}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def is_light(window: Visit) -> None:
    """The page that the window has opened is within its weight."""
    window.page.wait_for_timeout(300)  # what is asked for late would be missed
    asked = {one.url for one in window.requests}  # on a slow machine some are asked again
    assert len(asked) <= MOST_REQUESTS, asked
    # Weighed on disk: Chromium never hands out the body of a shared worker's script.
    files = {
        settings.BASE_DIR / one.url.removeprefix(window.server.url + "/").partition("?")[0]
        for one in window.requests
        if one.resource_type in ("script", "stylesheet")
    }
    assert len(files) >= 4
    assert sum(len(gzip.compress(one.read_bytes())) for one in files) <= MOST_BYTES
