"""How long an event of a trainer takes to become a number in somebody's browser.

    python -m benchmarks.bench_live --seconds 60    (a real server in a temporary folder; Chromium)

Goal (design, training.md): at most 1 s. Every step and epoch that the trainer wrote into its
journal counts, from its own moment to the moment at which the page showed it or a later one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from bisect import bisect_left
from datetime import datetime
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from benchmarks.figures import begin, tell
from ml.rundir import RunDir, read_events
from tests.servers import Stack, run_django, serving

SECONDS, GOAL_MS = 60, 1000
CONFIG = {"dataset": "digits", "epochs": 10_000, "device": "cpu", "seed": 1, "batch_size": 16}
FIELDS = {"step": "current_step", "epoch": "current_epoch"}
"""Type of event → the number on the page that follows it."""
WATCH = """fields => {
    window.shown = {};
    for (const [type, field] of Object.entries(fields)) {
        const element = document.querySelector(`dd [data-field=${field}]`);
        const note = () => window.shown[type].push(
            [Number(element.textContent.replace(/\\D/g, "")), Date.now()]);
        window.shown[type] = [];
        new MutationObserver(note).observe(
            element, {childList: true, characterData: true, subtree: true});
    }
}"""
SIGN_IN = """
import json
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
user, store = User.objects.get(username="admin"), SessionStore()
store[SESSION_KEY], store[HASH_SESSION_KEY] = user.pk, user.get_session_auth_hash()
store[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
store.create()
print(json.dumps(store.session_key))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=int, default=SECONDS)
    seconds = parser.parse_args().seconds
    chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        serving(Path(folder)) as stack,
        sync_playwright() as play,
    ):
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context()
        cookie = run_django(SIGN_IN, stack.env)
        context.add_cookies([{"name": "sessionid", "value": cookie, "url": stack.url}])
        delays = measure(stack, context.new_page(), seconds)
        browser.close()
    begin()
    for name, values in delays.items():
        cuts = statistics.quantiles(values, n=100, method="inclusive")
        more = f"{len(values)} events, 99 of 100 within {cuts[98]:.0f}, most {max(values):.0f}"
        tell(f"{name} in the trainer → in the browser", cuts[49], "ms", at_most=GOAL_MS, more=more)


def measure(stack: Stack, page: Page, seconds: int) -> dict[str, list[float]]:
    """Milliseconds of every event between the page's first number and its last."""
    with stack.client() as client:
        session = client.post("/api/v1/sessions/", json=CONFIG).raise_for_status().json()["id"]
        stack.wait_for(session, "running")
        page.goto(f"{stack.url}/sessions/{session}/")
        expect(page.locator("#live")).to_have_text("live", timeout=30_000)
        page.evaluate(WATCH, FIELDS)
        page.wait_for_timeout(1000 * seconds)
        shown = page.evaluate("window.shown")
        client.post(f"/api/v1/sessions/{session}/cancel").raise_for_status()
        stack.wait_for(session, "cancelled")
    journal = RunDir(stack.var_dir / "runs" / session).journal_path(1)
    events, _ = read_events(journal, 0, limit_bytes=2**30)
    return {type: find_delays(events, type, shown[type]) for type in FIELDS}


def find_delays(
    events: list[dict[str, object]], type: str, shown: list[list[float]]
) -> list[float]:
    numbers = [number for number, _ in shown]
    delays = []
    for event in events:
        if event["type"] == type and numbers[0] < float(str(event[type])) <= numbers[-1]:
            moment = datetime.fromisoformat(str(event["at"])).timestamp()
            place = bisect_left(numbers, float(str(event[type])))
            delays.append(shown[place][1] - 1000 * moment)
    return delays


if __name__ == "__main__":
    main()
