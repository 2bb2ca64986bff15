"""What changes while one looks: numbers, curves, log, the live dot, many tabs."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import Route, expect

from jobs.models import Job, LogLine, State
from tests.pages.conftest import Server, Visit
from tests.pages.looks import is_live
from tests.pages.scene import add_epoch, build_scene, sample_host

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    # Django leaves the (empty) body of a stream open when the server stops under it.
    pytest.mark.filterwarnings("ignore:Unclosed file <tempfile.Spooled:ResourceWarning"),
]

Open = Callable[..., Visit]


def change_job(job_id: str, **values: object) -> None:
    Job.objects.filter(pk=job_id).update(updated_at=timezone.now(), **values)


def test_a_reading_reaches_the_page_without_reload(visit: Open, owner: User) -> None:
    sample_host(cpu_percent=11.0)
    page = visit(owner).open("/")
    is_live(page)
    sample_host(cpu_percent=83.4)
    expect(page.locator("[data-field='cpu.percent']").first).to_have_text("83.4")


def test_a_gpu_that_appears_is_drawn(visit: Open, owner: User) -> None:
    sample_host()
    page = visit(owner).open("/")
    is_live(page)
    sample_host(gpu=True)
    expect(page.locator("[data-gpu]")).to_contain_text("NVIDIA H100")


def test_progress_loss_log_and_epochs_of_a_session_follow(visit: Open, owner: User) -> None:
    session = build_scene(owner).running
    window = visit(owner)
    page = window.open(f"/sessions/{session.pk}/")
    is_live(page)
    add_epoch(session, 5)
    session.current_epoch = 5
    session.save()
    LogLine.objects.create(job=session.job, message="Epoch 5/10: <b>done</b>")
    change_job(session.pk, progress=50.0)
    expect(page.locator("#log")).to_contain_text("Epoch 5/10: <b>done</b>")
    expect(page.locator("dd [data-field=progress]")).to_have_text("50.0")
    expect(page.locator("#epochs tbody tr")).to_have_count(5)
    # The curve has the new steps: without a cursor its legend says the newest one.
    expect(page.locator("#chart-loss .u-legend")).to_contain_text("20")
    assert window.complaints == []


def test_what_happens_before_the_stream_is_open_is_not_missed(visit: Open, owner: User) -> None:
    session = build_scene(owner).running
    window = visit(owner)
    window.page.add_init_script("delete globalThis.SharedWorker")  # its requests cannot be held
    held: list[Route] = []
    window.page.route("**/stream/**", lambda route: held.append(route))
    page = window.open(f"/sessions/{session.pk}/")
    add_epoch(session, 5)
    session.current_epoch, session.current_step = 5, 20
    session.save()
    LogLine.objects.create(job=session.job, message="Said meanwhile.")
    while not held:
        page.wait_for_timeout(20)
    held.pop().continue_()
    expect(page.locator("#log")).to_contain_text("Said meanwhile.")
    expect(page.locator("#chart-loss .u-legend")).to_contain_text("20")


def test_a_session_that_ends_changes_its_buttons(visit: Open, owner: User) -> None:
    session = build_scene(owner).running
    page = visit(owner).open(f"/sessions/{session.pk}/")
    is_live(page)
    change_job(session.pk, state=State.COMPLETED, progress=100.0, finished_at=timezone.now())
    expect(page.locator(".head .state")).to_have_text("completed")
    expect(page.get_by_role("button", name="Delete")).to_be_visible()
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)


def test_the_list_and_the_counts_follow(visit: Open, owner: User) -> None:
    scene = build_scene(owner)
    page = visit(owner).open("/sessions/?tab=running")
    is_live(page)
    row = page.locator(f"tr[data-session='{scene.running.pk}']")
    change_job(scene.running.pk, progress=77.0)
    expect(row.locator("span[data-field=progress]")).to_have_text("77")
    change_job(scene.queued.pk, state=State.RUNNING, started_at=timezone.now())
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page.locator(".side .count").first).to_contain_text("2")


def test_the_page_says_so_when_the_server_is_gone_and_recovers(
    visit: Open, owner: User, server: Server
) -> None:
    scene = build_scene(owner)
    page = visit(owner).open(f"/sessions/{scene.running.pk}/")
    is_live(page)
    server.stop()
    expect(page.locator("#live")).to_have_text("reconnecting")
    LogLine.objects.create(job=scene.running.job, message="Said while nobody listened.")
    server.start()
    is_live(page)
    expect(page.locator("#log")).to_contain_text("Said while nobody listened.")


def test_a_silent_sampler_is_named_with_its_age(visit: Open, owner: User) -> None:
    sample_host()
    page = visit(owner).open("/")
    is_live(page)
    expect(page.locator("#live")).to_have_text(re.compile(r"no data for \d+ s"))
    sample_host()
    expect(page.locator("#live")).to_have_text("live")


def test_seven_tabs_share_one_stream(visit: Open, owner: User) -> None:
    scene = build_scene(owner)
    window = visit(owner)
    context = window.page.context
    pages = [window.open("/")]
    for path in (
        "/sessions/",
        f"/sessions/{scene.running.pk}/",
        "/datasets/",
        "/models/",
        "/",
        "/",
    ):
        pages.append(context.new_page())
        pages[-1].goto(window.server.url + path)
    for page in pages:
        is_live(page)
    sample_host(cpu_percent=64.2)
    for page in (pages[0], pages[-1]):
        expect(page.locator("[data-field='cpu.percent']").first).to_have_text("64.2")


def test_a_deleted_session_does_not_take_the_stream_from_other_pages(
    visit: Open, owner: User
) -> None:
    scene = build_scene(owner)
    window = visit(owner)
    gone = window.open(f"/sessions/{scene.failed.pk}/")
    is_live(gone)
    scene.failed.job.delete()
    other = gone.context.new_page()
    other.goto(window.server.url + f"/sessions/{scene.running.pk}/")
    is_live(other)


def test_where_there_is_no_shared_worker_the_page_has_its_own_stream(
    visit: Open, owner: User
) -> None:
    sample_host(cpu_percent=11.0)
    window = visit(owner)
    window.page.add_init_script("delete globalThis.SharedWorker")
    page = window.open("/")
    is_live(page)
    sample_host(cpu_percent=35.8)
    expect(page.locator("[data-field='cpu.percent']").first).to_have_text("35.8")


def test_without_a_stream_the_page_polls(visit: Open, owner: User) -> None:
    scene = build_scene(owner)
    window = visit(owner)
    window.page.add_init_script("delete globalThis.SharedWorker")
    window.page.route("**/stream/**", lambda route: route.fulfill(status=503))
    page = window.open("/sessions/")
    expect(page.locator("#live")).to_have_text("polling")
    change_job(scene.running.pk, progress=63.0)
    row = page.locator(f"tr[data-session='{scene.running.pk}']")
    expect(row.locator("span[data-field=progress]")).to_have_text("63")


def test_signing_out_ends_the_stream_of_the_other_tabs(visit: Open, owner: User) -> None:
    build_scene(owner)
    window = visit(owner)
    first = window.open("/")
    is_live(first)
    second = first.context.new_page()
    second.goto(window.server.url + "/models/")
    second.get_by_role("button", name="Sign out").click()
    expect(second.get_by_role("heading", name="Sign in")).to_be_visible()
    first.goto(window.server.url + "/")
    expect(first.get_by_role("heading", name="Sign in")).to_be_visible()
