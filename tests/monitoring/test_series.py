from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from mlserver.lib.errors import Invalid
from monitoring.models import HistoryBucket
from monitoring.series import Scale, choose_scale, parse_name, read_history
from tests import factories
from tests.monitoring.rows import gpu_sample, host_sample

pytestmark = pytest.mark.django_db


@pytest.fixture
def signed_in(client: Client) -> Client:
    client.force_login(factories.user("looker", role="viewer"))
    return client


def get(client: Client, query: str, status: int = 200) -> Any:
    response = client.get(f"/api/v1/system/history?{query}")
    assert response.status_code == status, response.content
    return response.json()


def bucket(
    seconds_ago: float, width: int = 10, device: str = "", start: int = 0, **values: Any
) -> int:
    start = start or int((timezone.now().timestamp() - seconds_ago) // width * width)
    HistoryBucket.objects.create(
        host="box",
        device=device,
        width=width,
        start=start,
        count=width,
        values={name: [*three, width] for name, three in values.items()},
    )
    return start


def test_the_last_minutes_come_as_they_were_read(signed_in: Client) -> None:
    now = timezone.now()
    for seconds in (3, 2, 1):
        gpu_sample(host_sample(timestamp=now - timedelta(seconds=seconds), cpu_percent=seconds))
    body = get(signed_in, "range=5m&metrics=cpu_percent,gpu.GPU-1234.busy_percent")
    assert (body["range"], body["bucket_seconds"]) == ("5m", 1)
    cpu, gpu = body["series"]["cpu_percent"], body["series"]["gpu.GPU-1234.busy_percent"]
    assert cpu["mean"] == cpu["min"] == cpu["max"] == [3, 2, 1]
    assert gpu["mean"] == [37, 37, 37]
    assert cpu["timestamps"] == gpu["timestamps"]
    assert cpu["timestamps"][0] == pytest.approx(now.timestamp() - 3, abs=0.01)


def test_a_gap_is_a_null_between_the_readings(signed_in: Client) -> None:
    now = timezone.now()
    for seconds in (60, 59, 10, 9):
        host_sample(timestamp=now - timedelta(seconds=seconds), cpu_percent=seconds)
    cpu = get(signed_in, "metrics=cpu_percent")["series"]["cpu_percent"]
    assert cpu["mean"] == cpu["max"] == [60, 59, None, 10, 9]


def test_an_hour_comes_in_buckets_with_extremes(signed_in: Client) -> None:
    host_sample()
    first = bucket(600, cpu_percent=[1, 20, 90])
    second = bucket(0, cpu_percent=[0, 0, 0], start=first + 10)
    bucket(300)  # nothing was read of the CPU
    cpu = get(signed_in, "range=1h&metrics=cpu_percent")["series"]["cpu_percent"]
    assert cpu["timestamps"][:2] == [first, second]
    assert cpu["mean"] == [20, 0, None, None]
    assert cpu["min"] == [1, 0, None, None]
    assert cpu["max"] == [90, 0, None, None]


def test_without_names_it_shows_the_load_of_the_host(signed_in: Client) -> None:
    host_sample()
    assert set(get(signed_in, "")["series"]) == {"cpu_percent", "memory_percent"}


def test_a_range_of_ones_own_is_answered_with_start_and_end(signed_in: Client) -> None:
    host_sample()
    start = bucket(7200, width=60, cpu_percent=[1, 2, 3])
    since = timezone.now() - timedelta(hours=30)
    query = f"start={since:%Y-%m-%dT%H:%M:%SZ}&metrics=cpu_percent"
    body = get(signed_in, query)
    assert body["range"] is None
    assert body["bucket_seconds"] == 900 or body["bucket_seconds"] == 60
    if body["bucket_seconds"] == 60:
        assert body["series"]["cpu_percent"]["timestamps"] == [start]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("range=2h", "range"),
        ("metrics=nonsense", "metrics"),
        ("metrics=gpu.GPU-1.nonsense", "metrics"),
        ("start=yesterday", "start"),
        ("start=2026-01-06T10:30:00Z&end=2026-01-05T10:30:00Z", "start"),
        ("end=2026-13-01T00:00:00Z", "end"),
        ("metrics=" + ",".join(["cpu_percent"] * 65), "metrics"),
    ],
)
def test_what_cannot_be_answered_names_its_field(signed_in: Client, query: str, field: str) -> None:
    body = get(signed_in, query, 422)
    assert [error["field"] for error in body["errors"]] == [field]


def test_it_needs_a_key(client: Client) -> None:
    assert client.get("/api/v1/system/history").status_code == 401


def test_the_uuid_of_a_gpu_may_have_dots() -> None:
    name = parse_name("gpu.0000:03:00.0.power_watts")
    assert (name.device, name.metric) == ("0000:03:00.0", "power_watts")
    with pytest.raises(Invalid, match="cpu_percent"):
        parse_name("gpu..power_watts")


@pytest.mark.parametrize(
    ("span", "scale"),
    [
        (timedelta(minutes=5), Scale(0, 1)),
        (timedelta(minutes=15), Scale(0, 1)),
        (timedelta(hours=1), Scale(10, 10)),
        (timedelta(hours=24), Scale(60, 60)),
        (timedelta(days=7), Scale(900, 900)),
        (timedelta(days=30), Scale(900, 1800)),
        (timedelta(days=365), Scale(900, 21600)),
    ],
)
def test_the_finest_buckets_that_fit_are_read(span: timedelta, scale: Scale) -> None:
    now = timezone.now()
    assert choose_scale(now - span, now) == scale


def test_an_old_short_range_is_read_from_what_was_kept() -> None:
    now = timezone.now()
    old = now - timedelta(days=3)
    assert choose_scale(old, old + timedelta(minutes=10)) == Scale(60, 60)


def test_a_year_is_merged_with_its_extremes() -> None:
    host_sample()
    width = 21600
    start = (timezone.now().timestamp() // width - 10) * width
    for quarter, value in enumerate((10.0, 30.0)):
        HistoryBucket.objects.create(
            host="box",
            width=900,
            start=start + 900 * quarter,
            count=900,
            values={"cpu_percent": [0, value, value, 900]},
        )
    since = timezone.now() - timedelta(days=365)
    [series] = read_history(["cpu_percent"], since)["series"].values()
    assert (series["timestamps"], series["mean"], series["max"]) == ([start], [20], [30])
