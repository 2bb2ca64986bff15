"""Who used a GPU, how long, and what it took."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from jobs.models import State
from monitoring.models import GpuUse
from monitoring.spans import Span, read_span
from monitoring.use import JOULES_PER_KWH, UseBook, prune_use, read_days, read_use
from tests import factories
from tests.ml.hardware.nvml_double import GIB, one_card
from tests.monitoring.rows import gpu_sample, host_sample
from tests.monitoring.test_processes import Reader, reading
from tests.monitoring.test_sampler import make_sampler
from tests.properties.examples import client

pytestmark = pytest.mark.django_db

GPU = "GPU-1234"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def use(hours_ago: float, session: str = "", seconds: float = 60, kwh: float | None = 0.5) -> None:
    hour = timezone.now() - timedelta(hours=hours_ago)
    GpuUse.objects.create(
        uuid=GPU,
        hour=hour.replace(minute=0, second=0, microsecond=0),
        session=session,
        seconds=seconds,
        joules=None if kwh is None else kwh * JOULES_PER_KWH,
    )


def last(label: str = "24h") -> Span:
    return read_span({"range": label}, "")


def test_seconds_and_joules_add_up_in_the_hour() -> None:
    clock = Clock()
    book = UseBook(clock)
    for second in range(4):
        clock.now = second
        book.add({GPU: {"train_1": 100.0, "": None}})
        if second % 2:
            book.write()
    mine, others = GpuUse.objects.order_by("-session")
    assert (mine.session, mine.seconds, mine.joules) == ("train_1", 3, 400)
    assert (others.session, others.seconds, others.joules) == ("", 3, None)


def test_a_sampler_that_stood_still_does_not_guess() -> None:
    clock = Clock()
    book = UseBook(clock)
    book.add({GPU: {"train_1": 0.0}})
    clock.now = 3600
    book.add({GPU: {"train_1": 0.0}})
    book.write()
    assert GpuUse.objects.get().seconds == 5


def test_who_took_most_comes_first_and_others_last(owner: User) -> None:
    session = factories.session(owner=owner, name="mine")
    use(1, "", kwh=9)
    use(1, session.pk, kwh=0.5)
    use(2, session.pk, kwh=0.25)
    use(2, "train_gone", kwh=2)
    use(30, session.pk, kwh=100)
    found = read_use(GPU, last())
    assert [(each.name, each.kwh) for each in found] == [
        ("train_gone", 2),
        (session.title, 0.75),
        ("others, or idle", 9),
    ]
    assert found[1].session == session
    assert found[1].seconds == 120


def test_energy_is_told_by_day_and_not_where_none_is_counted() -> None:
    today = timezone.now().astimezone(UTC).date()
    for days in (0, 0, 1):
        row = GpuUse(uuid=GPU, session=f"s{GpuUse.objects.count()}", joules=JOULES_PER_KWH)
        row.hour = datetime(today.year, today.month, today.day, tzinfo=UTC) - timedelta(days=days)
        row.save()
    assert read_days(GPU, last("7d")) == [
        (today, 2.0),
        (today - timedelta(days=1), 1.0),
    ]
    GpuUse.objects.update(joules=None)
    assert read_days(GPU, last("7d")) == []
    assert [each.kwh for each in read_use(GPU, last("7d"))] == [None] * 3


def test_after_a_year_it_is_forgotten() -> None:
    use(1)
    use(24 * 366)
    prune_use(timezone.now())
    assert GpuUse.objects.count() == 1


def test_the_sampler_notes_the_session_whose_process_holds_the_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = factories.session(state=State.RUNNING)
    nvml = one_card()
    nvml.cards[0].processes = {900: GIB}
    sampler = make_sampler(tmp_path, nvml)
    monkeypatch.setattr(sampler._processes, "_reader", Reader(reading(900, run=session.pk)))
    for _ in range(6):
        sampler.tick()
        nvml.cards[0].millijoules += 100_000
    rows = GpuUse.objects.filter(session=session.pk)  # two, if an hour ends meanwhile
    assert sum(row.joules or 0 for row in rows) == pytest.approx(500)


def test_the_page_of_a_gpu_tells_who_used_it(owner: User) -> None:
    gpu_sample(host_sample(), reasons={"energy_joules": "This GPU does not report it."})
    session = factories.session(owner=owner, name="mine")
    use(1, session.pk, seconds=3700, kwh=None)
    browser = Client(headers={"accept": "text/html"})
    browser.force_login(owner)
    html = browser.get(f"/system/gpus/{GPU}/?range=7d").content.decode()
    assert "last 7 days" in html
    assert "1 h 1 min" in html
    assert "not counted" in html
    assert "Energy: This GPU does not report it." in html
    GpuUse.objects.update(joules=JOULES_PER_KWH)
    html = browser.get(f"/system/gpus/{GPU}/").content.decode()
    assert "last 24 hours" in html
    assert "1.00 kWh" in html


def test_the_api_tells_the_same(owner: User) -> None:
    session = factories.session(owner=owner)
    use(1, session.pk, seconds=90, kwh=0.5)
    use(1, "", kwh=None)
    api = client(owner)
    told = api.get(f"/api/v1/system/gpus/{GPU}/use?range=7d").json()
    assert told["results"] == [
        {"session": session.pk, "owner": "owner", "held_seconds": 90.0, "energy_kwh": 0.5},
        {"session": None, "owner": None, "held_seconds": 60.0, "energy_kwh": None},
    ]
    assert [day["energy_kwh"] for day in told["days"]] == [0.5]
    assert api.get(f"/api/v1/system/gpus/{GPU}/use?range=2d").status_code == 422
    assert api.get("/api/v1/system/gpus/GPU-none/use").status_code == 404
    GpuUse.objects.update(hour=timezone.now() - timedelta(days=3))
    assert api.get(f"/api/v1/system/gpus/{GPU}/use").json()["results"] == []
