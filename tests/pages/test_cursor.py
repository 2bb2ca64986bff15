"""One cursor in time: where the reader points in a chart, the log and the others show it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import Page, expect

from jobs.models import LogLine, State
from ml.config import parse_config
from monitoring.models import HostSample
from sessions.models import MetricPoint, TrainingSession
from tests import factories
from tests.pages.conftest import Visit

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    # Django leaves the (empty) body of a stream open when the server stops under it.
    pytest.mark.filterwarnings("ignore:Unclosed file <tempfile.Spooled:ResourceWarning"),
]
Open = Callable[..., Visit]
STEPS = 60


@pytest.fixture
def session(owner: User) -> TrainingSession:
    """A step, a reading and a line of the log in every second of a minute."""
    began = timezone.now() - timedelta(seconds=STEPS + 5)
    session = factories.session(
        owner=owner,
        state=State.FAILED,
        error_code="diverged",
        config=parse_config({"dataset": "d"}).to_dict(),
        started_at=began,
        finished_at=began + timedelta(seconds=STEPS + 1),
        current_step=STEPS,
        total_steps=STEPS,
        total_epochs=1,
    )
    for step in range(1, STEPS + 1):
        add_second(session, step, began + timedelta(seconds=step))
    return session


def add_second(session: TrainingSession, step: int, at: datetime) -> None:
    loss = None if step == STEPS else 1 / step
    MetricPoint.objects.create(session=session, key="loss", step=step, value=loss, timestamp=at)
    LogLine.objects.create(job=session.job, message=f"Line of step {step}.", timestamp=at)
    HostSample.objects.create(
        host="box",
        timestamp=at,
        cpu_percent=float(step),
        memory_total_bytes=100,
        memory_used_bytes=40,
        gpu_count=0,
    )


def drawn(page: Page) -> Page:
    for name in ("loss", "hardware"):
        page.locator(f"#chart-{name} canvas").wait_for()
    return page


def test_pointing_at_a_step_shows_its_line_and_its_reading(
    visit: Open, owner: User, session: TrainingSession
) -> None:
    page = drawn(visit(owner).open(f"/sessions/{session.pk}/"))
    area = page.locator("#chart-loss .u-over")
    box = area.bounding_box()
    assert box is not None
    area.hover(position={"x": box["width"] / 2, "y": box["height"] / 2})
    marked = page.locator("#log .at")
    expect(marked).to_have_count(1)
    expect(marked).to_contain_text("Line of step 3")  # 30 or 31: the middle
    reading = page.locator("#chart-hardware .u-legend .u-series").nth(1).locator(".u-value")
    expect(reading).to_have_text("30.0" if "step 30" in marked.inner_text() else "31.0")
    page.mouse.move(2, 2)
    expect(marked).to_have_count(0)


def test_arrow_keys_move_the_cursor(visit: Open, owner: User, session: TrainingSession) -> None:
    page = drawn(visit(owner).open(f"/sessions/{session.pk}/"))
    page.locator("#chart-loss").focus()
    page.keyboard.press("Home")
    expect(page.locator("#log .at")).to_contain_text("Line of step 1.")
    page.keyboard.press("Shift+ArrowRight")
    expect(page.locator("#log .at")).to_contain_text("Line of step 11.")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#log .at")).to_contain_text("Line of step 10.")


def test_a_line_of_the_log_moves_the_charts(
    visit: Open, owner: User, session: TrainingSession
) -> None:
    page = drawn(visit(owner).open(f"/sessions/{session.pk}/"))
    page.get_by_text("Line of step 40.").hover()
    loss = page.locator("#chart-loss .u-legend .u-series").first.locator(".u-value")
    expect(loss).to_have_text("40")


def test_the_step_that_left_the_numbers_is_handed_to_the_chart(
    visit: Open, owner: User, session: TrainingSession
) -> None:
    window = visit(owner)
    page = drawn(window.open(f"/sessions/{session.pk}/"))
    told = page.evaluate("JSON.parse(document.getElementById('session-data').textContent)")
    assert told["not_finite"] == {"series": "loss", "step": STEPS}
    expect(page.locator("#diagnosis")).to_contain_text(f"no longer a number at step {STEPS}")
    assert window.complaints == []
