"""The System page and the page of a GPU, in Chromium."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import expect

from monitoring.models import Alert, HostSample, ProcessTable
from tests.pages.conftest import Visit
from tests.pages.looks import DESK, PHONE, is_light, is_live, overflow, violations
from tests.pages.machine_scene import FIRST, SECOND, alert, machine, read
from tests.pages.scene import sample_host

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    # Django leaves the (empty) body of a stream open when the server stops under it.
    pytest.mark.filterwarnings("ignore:Unclosed file <tempfile.Spooled:ResourceWarning"),
]
Open = Callable[..., Visit]
STEP = timedelta(seconds=10)  # of the finest buckets


@pytest.mark.parametrize(("theme", "size"), [("light", DESK), ("dark", PHONE)])
def test_two_gpus_are_shown_without_complaint(
    visit: Open, owner: User, theme: str, size: dict[str, int]
) -> None:
    machine(owner)
    window = visit(owner, viewport=size, color_scheme=theme)
    for path in ("/system/", "/system/?range=1h", f"/system/gpus/{FIRST}/"):
        page = window.open(path)
        is_live(page)
        expect(page.locator("[data-panel] canvas").first).to_be_visible()
        expect(page.locator("[data-panel] .waiting")).to_have_count(0)
        assert overflow(page) <= 0, path
        assert violations(page) == [], path
    assert window.complaints == []


def test_the_memory_bar_is_split_by_owner_and_names_them(visit: Open, owner: User) -> None:
    session = machine(owner)
    page = visit(owner).open("/system/")
    card = page.locator(f"[data-gpu='{FIRST}']")
    expect(card.locator(".legend li")).to_have_text(
        [
            "qwen-lora · owner 58.9 GiB",
            "jupyter · mlsrv 1.80 GiB",
            "driver, or not visible 0.30 GiB",
        ]
    )
    assert card.locator("rect.s1").get_attribute("width") == "73.99"
    expect(card.locator("[data-limit=hw_thermal]")).to_be_visible()
    expect(card.locator("[data-limit=hw_slowdown]")).to_be_hidden()
    expect(page.locator(f"[data-gpu='{SECOND}']")).to_contain_text("PCIe ×8 of ×16")
    card.get_by_role("link", name="qwen-lora").click()
    page.wait_for_url(f"**/sessions/{session.pk}/")


def test_readings_bar_and_processes_follow(visit: Open, owner: User) -> None:
    machine(owner)
    page = visit(owner).open("/system/")
    is_live(page)
    table = ProcessTable.objects.get()
    table.processes[0]["gpu_memory_bytes"] //= 2
    table.timestamp = timezone.now()
    table.save()
    read(timezone.now(), cpu_percent=83.4)
    expect(page.locator("[data-field='cpu.percent']").first).to_have_text("83.4")
    expect(page.locator("#processes tbody tr").first).to_contain_text("29.4")
    expect(page.locator(f"[data-gpu='{FIRST}'] rect.s1")).to_have_attribute("width", "37.00")


def test_a_process_that_ended_leaves_the_table(visit: Open, owner: User) -> None:
    machine(owner)
    page = visit(owner).open("/system/")
    is_live(page)
    expect(page.locator("#processes tbody tr")).to_have_count(4)
    table = ProcessTable.objects.get()
    table.processes, table.timestamp = table.processes[:1], timezone.now()
    table.save()
    read(timezone.now())
    expect(page.locator("#processes tbody tr")).to_have_count(1)


def test_pause_holds_the_page_and_going_on_catches_up(visit: Open, owner: User) -> None:
    machine(owner)
    page = visit(owner).open("/system/")
    is_live(page)
    before = page.locator("[data-field='cpu.percent']").first.inner_text()
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#live")).to_have_text("paused")
    read(timezone.now(), cpu_percent=99.1)
    page.wait_for_timeout(700)
    expect(page.locator("[data-field='cpu.percent']").first).to_have_text(before)
    page.get_by_role("button", name="Go on").click()
    is_live(page)
    expect(page.locator("[data-field='cpu.percent']").first).to_have_text("99.1")


def test_a_pinned_chart_comes_first_also_next_time(visit: Open, owner: User) -> None:
    machine(owner)
    page = visit(owner).open("/system/")
    first = page.locator("#panels > [data-panel]").first
    expect(first).to_have_attribute("data-panel", "gpu-busy_percent")
    page.get_by_role("button", name="Pin Network").click()
    expect(first).to_have_attribute("data-panel", "network")
    page.reload()
    expect(first).to_have_attribute("data-panel", "network")
    page.get_by_role("button", name="Pin Network").click()
    expect(first).to_have_attribute("data-panel", "gpu-busy_percent")


def test_a_range_of_ones_own_is_asked_in_the_time_of_ones_own_clock(
    visit: Open, owner: User
) -> None:
    machine(owner)
    end = timezone.now().replace(second=0, microsecond=0) - timedelta(minutes=10)
    start = end - timedelta(minutes=20)
    window = visit(owner, timezone_id="Asia/Kolkata")
    page = window.open("/system/")
    local = [f"{each.astimezone(ZoneInfo('Asia/Kolkata')):%Y-%m-%dT%H:%M}" for each in (start, end)]
    page.get_by_label("From", exact=True).fill(local[0])
    page.get_by_label("to", exact=True).fill(local[1])
    page.get_by_role("button", name="Show", exact=True).click()
    page.wait_for_url("**/system/?start=*")
    asked = parse_qs(urlsplit(page.url).query)
    assert asked == {
        name: [f"{moment:%Y-%m-%dT%H:%M}:00.000Z"]
        for name, moment in (("start", start), ("end", end))
    }
    expect(page.get_by_label("From", exact=True)).to_have_value(local[0])
    expect(page.locator("[data-panel] canvas").first).to_be_visible()
    page.locator("[data-panel=cpu]").get_by_text("Show as table").click()
    expect(page.locator("[data-panel=cpu] tr")).not_to_have_count(0)
    times = page.locator("[data-panel=cpu] tr td:first-child").all_inner_texts()
    assert times[0].endswith(f"{end.astimezone(ZoneInfo('Asia/Kolkata')) - STEP:%H:%M:%S}")
    assert violations(page) == []
    assert overflow(page) <= 0
    assert window.complaints == []


def test_a_chart_is_also_a_table(visit: Open, owner: User) -> None:
    machine(owner)
    page = visit(owner).open("/system/?range=1h")
    panel = page.locator("[data-panel=cpu]")
    panel.get_by_text("Show as table").click()
    expect(panel.locator(".chart-table tr").nth(1).locator("td")).to_have_count(2)


def test_without_a_gpu_the_page_says_why_and_has_the_rest(visit: Open, owner: User) -> None:
    sample_host()
    window = visit(owner)
    page = window.open("/system/")
    is_live(page)
    assert "No NVIDIA driver found" in page.inner_text("main")
    expect(page.locator("[data-panel]")).to_have_count(4)
    assert violations(page) == []
    assert window.complaints == []


def test_without_a_sampler_the_page_says_so(visit: Open, owner: User) -> None:
    window = visit(owner)
    page = window.open("/system/")
    assert "The sampler has not run yet" in page.inner_text("main")
    assert violations(page) == []
    assert window.complaints == []


def test_the_scrape_configuration_names_this_server(visit: Open, owner: User) -> None:
    sample_host()
    window = visit(owner)
    page = window.open("/system/")
    host = window.server.url.removeprefix("http://")
    text = page.get_by_label("Prometheus scrape configuration").inner_text()
    assert f'targets: ["{host}"]' in text


def test_the_page_stays_within_its_weight(visit: Open, owner: User) -> None:
    machine(owner)
    window = visit(owner)
    page = window.open("/system/")
    is_live(page)
    is_light(window)


def test_without_script_the_numbers_stand_there(visit: Open, owner: User) -> None:
    machine(owner)
    window = visit(owner, java_script_enabled=False, viewport=PHONE)
    page = window.open("/system/")
    assert "61.0 / 79.6 GiB" in page.inner_text("main")
    assert overflow(page) <= 0


def test_an_alert_that_opens_reaches_the_navigation(visit: Open, owner: User) -> None:
    machine(owner)
    page = visit(owner).open("/system/")
    is_live(page)
    expect(page.locator(".side .count.alert")).to_have_count(0)
    alert()
    expect(page.locator(".side .count.alert")).to_contain_text("1")
    Alert.objects.update(state="closed", updated_at=timezone.now())
    expect(page.locator(".side .count.alert")).to_have_count(0)


def test_while_the_sampler_is_silent_a_gpu_has_its_facts_and_no_readings(
    visit: Open, owner: User
) -> None:
    machine(owner, minutes=0)
    HostSample.objects.update(timestamp=timezone.now() - timedelta(minutes=5))
    window = visit(owner)
    page = window.open(f"/system/gpus/{FIRST}/")
    text = page.inner_text("main")
    assert "The sampler is silent since" in text
    assert "580.65.06" in text
    assert "61.0" not in page.inner_text("#now")
    assert violations(page) == []
    assert "not known while the sampler is silent" in window.open("/system/").inner_text("main")
    assert window.complaints == []
