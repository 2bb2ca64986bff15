"""What the System page draws: owners of memory, the order of processes, the charts."""

import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from jobs.models import State
from monitoring.machine import make_cards, make_detail_panels, make_panels, name_processes
from monitoring.services import GPU_FIELDS, describe_now
from tests import factories
from tests.monitoring.rows import GIB, gpu_sample, host_sample
from tests.pages.machine_scene import FIRST, machine

pytestmark = pytest.mark.django_db


def gpu(**values: Any) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(GPU_FIELDS)
    known = {"index": 0, "uuid": "A", "parent_uuid": "", "limits": [], "details": {}, "reasons": {}}
    memory = {"memory_total_bytes": 100 * GIB, "memory_used_bytes": 60 * GIB}
    return {**empty, **known, **memory, **values}


def process(pid: int = 1, **values: Any) -> dict[str, Any]:
    return {
        "pid": pid,
        "user": "ana",
        "command": "/usr/bin/python train.py",
        "session": None,
        "owner": None,
        "gpu_uuid": "A",
        "gpu_memory_bytes": None,
        "cpu_percent": None,
        **values,
    }


def shares(card: Any) -> list[tuple[str, float, float, str]]:
    return [(part.label, part.start, part.width, part.shade) for part in card.segments]


def test_memory_is_split_by_owner_and_the_rest_is_said() -> None:
    session = factories.session(name="lora", state=State.RUNNING)
    [card] = make_cards(
        [gpu()],
        [
            process(1, gpu_memory_bytes=5 * GIB),
            process(2, gpu_memory_bytes=20 * GIB, session=session.pk, owner="bo"),
            process(3, gpu_memory_bytes=30 * GIB, session=session.pk, owner="bo"),
            process(4, gpu_memory_bytes=9 * GIB, gpu_uuid="B"),
        ],
    )
    assert shares(card) == [
        ("lora · bo", 0.0, 50.0, "s1"),
        ("python · ana", 50.0, 5.0, "s2"),
        ("driver, or not visible", 55.0, 5.0, "rest"),
    ]
    assert card.segments[0].session == session.pk


def test_more_than_is_used_never_leaves_the_bar() -> None:
    [card] = make_cards([gpu()], [process(1, gpu_memory_bytes=130 * GIB)])
    assert shares(card)[0][1:3] == (0.0, 100.0)
    assert shares(card)[1][2] == 0


def test_memory_that_is_not_known_has_no_bar() -> None:
    [card] = make_cards([gpu(memory_used_bytes=None)], [process(1, gpu_memory_bytes=GIB)])
    assert card.segments == []


def test_mig_instances_stand_under_their_gpu() -> None:
    cards = make_cards([gpu(), gpu(uuid="MIG-1", parent_uuid="A"), gpu(uuid="B", index=1)], [])
    assert [card.gpu["uuid"] for card in cards] == ["A", "B"]
    assert [one.gpu["uuid"] for one in cards[0].instances] == ["MIG-1"]


def test_a_lost_gpu_says_why_and_a_narrow_link_is_named() -> None:
    [card] = make_cards(
        [
            gpu(
                reasons={"gpu": "It fell off the bus."},
                details={"pcie_width": 4, "pcie_width_max": 16},
            )
        ],
        [],
    )
    assert (card.lost, card.link) == ("It fell off the bus.", "PCIe ×4 of ×16")


def test_processes_on_gpus_come_first_the_largest_at_the_top() -> None:
    rows = name_processes(
        [
            process(1, gpu_uuid=None, cpu_percent=3.0),
            process(2, gpu_uuid="B", gpu_memory_bytes=1),
            process(3, gpu_memory_bytes=1),
            process(4, gpu_memory_bytes=2),
        ],
        [gpu(), gpu(uuid="B", index=1)],
    )
    assert [row["pid"] for row in rows] == [4, 3, 2, 1]


def test_gpus_share_a_chart_and_each_has_its_line() -> None:
    row = host_sample()
    gpu_sample(row, power_limit_watts=700.0)
    gpu_sample(row, index=1, uuid="GPU-2", power_limit_watts=700.0)
    panels = {panel.id: panel for panel in make_panels(describe_now())}
    assert [line.metric for line in panels["gpu-busy_percent"].lines] == [
        "gpu.GPU-1234.busy_percent",
        "gpu.GPU-2.busy_percent",
    ]
    assert panels["gpu-power_watts"].limits == [{"value": 700.0, "label": "limit 700 W"}]


def test_without_a_gpu_there_are_the_charts_of_the_host() -> None:
    host_sample()
    panels = make_panels(describe_now())
    assert [panel.id for panel in panels] == ["cpu", "memory", "disk", "network"]


def test_every_line_finds_its_number_in_the_live_sample_and_its_name_in_the_history() -> None:
    from monitoring.series import parse_name

    row = host_sample(
        disk_read_bytes_per_second=1.0,
        disk_write_bytes_per_second=1.0,
        network_received_bytes_per_second=1.0,
        network_sent_bytes_per_second=1.0,
    )
    gpu_sample(row, temperature_celsius=1.0, power_watts=1.0, fan_percent=1.0, clock_sm_mhz=1.0)
    sample = describe_now()
    for panel in [*make_panels(sample), *make_detail_panels(sample["gpus"][0])]:
        for line in panel.lines:
            parse_name(line.metric)
            value: Any = sample["gpus"][0] if line.gpu else sample
            for key in line.path.split("."):
                value = value[key]
            assert value is not None, line


def test_a_gpu_has_only_charts_of_what_it_reports() -> None:
    ids = [panel.id for panel in make_detail_panels(gpu(fan_percent=30.0, busy_percent=1.0))]
    assert "gpu-fan_percent" in ids
    assert "gpu-sm_active_percent" not in ids


def test_a_gpu_that_is_not_there_is_a_page_that_says_so(owner: User) -> None:
    client = Client()
    client.force_login(owner)
    answer = client.get("/system/gpus/GPU-none/")
    assert answer.status_code == 404
    assert "There is no GPU GPU-none" in answer.content.decode()


def test_the_export_has_what_the_charts_show(owner: User) -> None:
    machine(owner)
    client = Client()
    client.force_login(owner)
    path = f"/system/history.csv?range=1h&metrics=cpu_percent,gpu.{FIRST}.busy_percent"
    answer = client.get(path)
    assert "attachment" in answer["Content-Disposition"]
    head, *rows = list(csv.reader(io.StringIO(answer.content.decode())))
    assert head[:4] == ["time", "cpu_percent mean", "cpu_percent min", "cpu_percent max"]
    assert len(head) == 7
    assert len(rows) > 300
    assert ["", "", ""] in [row[1:4] for row in rows]  # the gap
    assert client.get("/system/history.csv?metrics=nonsense").status_code == 422


def test_a_range_of_ones_own_is_shown_and_exported_and_no_time_is_refused(owner: User) -> None:
    machine(owner)
    client = Client(headers={"accept": "text/html"})
    client.force_login(owner)
    # Older than the raw readings, behind the gap of the scene.
    end = timezone.now().replace(second=0, microsecond=0) - timedelta(minutes=20)
    span = {"start": f"{end - timedelta(minutes=5):%FT%H:%MZ}", "end": f"{end:%FT%H:%MZ}"}
    rows = client.get("/system/history.csv", {**span, "metrics": "cpu_percent"}).content
    assert len(rows.splitlines()) == 31  # a head, and six buckets a minute
    for path in ("/system/", f"/system/gpus/{FIRST}/"):
        html = client.get(path, span).content.decode()
        assert f'value="{end:%Y-%m-%dT%H:%M}"' in html
        assert 'aria-current="true">Live' not in html
        assert client.get(path, {"start": "yesterday"}).status_code == 422
        assert client.get(path, {"start": span["end"], "end": span["start"]}).status_code == 422
