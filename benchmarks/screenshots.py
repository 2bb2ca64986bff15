"""Pictures of every page of a running server, light, dark and on a phone.

    VAR_DIR=… python manage.py serve &
    python -m benchmarks.screenshots http://127.0.0.1:8000 --user admin --out docs/pictures

Asks for the password, or takes it from SCREENSHOT_PASSWORD. Objects are the newest that exist.
"""

from __future__ import annotations

import argparse
import getpass
import os
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

WINDOWS = (("light", 1280, 860), ("dark", 1280, 860), ("dark", 390, 844))
LISTS = {
    "login": "/login/",
    "overview": "/",
    "sessions": "/sessions/",
    "new": "/sessions/new/",
    "datasets": "/datasets/",
    "models": "/models/",
    "loaded": "/models/loaded/",
    "playground": "/playground/",
}
ONE_OF = {"session": "/sessions/", "dataset": "/datasets/", "model": "/models/"}
SETTLE_MS = 1500


def main() -> None:
    asked = _parse()
    password = os.environ.get("SCREENSHOT_PASSWORD") or getpass.getpass()
    asked.out.mkdir(parents=True, exist_ok=True)
    chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for theme, width, height in WINDOWS:
            context = browser.new_context(viewport={"width": width, "height": height})
            page = context.new_page()
            page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]  # a plain str
            page.goto(asked.address + LISTS["login"])
            _shoot(page, asked.out / f"login-{theme}-{width}.png")
            _sign_in(page, asked.user, password)
            for name, path in _paths(page, asked.address).items():
                page.goto(asked.address + path)
                _shoot(page, asked.out / f"{name}-{theme}-{width}.png")
            context.close()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("address", nargs="?", default="http://127.0.0.1:8000")
    parser.add_argument("--user", default="admin")
    parser.add_argument("--out", type=Path, default=Path("var/screenshots"))
    return parser.parse_args()


def _sign_in(page: Page, user: str, password: str) -> None:
    page.get_by_label("Name").fill(user)
    page.get_by_label("Password").fill(password)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Overview").wait_for()


def _paths(page: Page, address: str) -> dict[str, str]:
    found = {name: path for name, path in LISTS.items() if name != "login"}
    for name, path in ONE_OF.items():
        page.goto(address + path)
        link = page.locator("tbody a.name").first
        if link.count():
            found[name] = str(link.get_attribute("href"))
    return found


def _shoot(page: Page, target: Path) -> None:
    page.wait_for_timeout(SETTLE_MS)  # curves and the first reading
    page.screenshot(path=target, full_page=True)
    print(target)


if __name__ == "__main__":
    main()
