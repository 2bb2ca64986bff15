import os
import re
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from jobs.models import State
from ml.hardware import GpuProcess, ProcessReading
from ml.rundir import RunDir
from monitoring.models import ProcessTable
from monitoring.processes import ProcessJoiner, store_processes
from tests import factories
from tests.monitoring.rows import host_sample

pytestmark = pytest.mark.django_db

GIB = 1 << 30


def reading(pid: int, parent: int = 1, **values: Any) -> ProcessReading:
    return ProcessReading(
        **{
            "pid": pid,
            "parent_pid": parent,
            "user": "ann",
            "command": "python -m ml.train",
            "run": "",
            "cpu_percent": 50.0,
            "memory_bytes": GIB,
            "started_at": 1_700_000_000.0,
            **values,
        }
    )


class Reader:
    """A machine with these processes."""

    def __init__(self, *readings: ProcessReading) -> None:
        self._readings = {one.pid: one for one in readings}

    def read(self) -> dict[int, ProcessReading]:
        return self._readings


def look(*readings: ProcessReading, on_gpus: list[GpuProcess] | None = None) -> Any:
    return ProcessJoiner(Reader(*readings)).look(on_gpus or [], {})  # type: ignore[arg-type]


def test_a_process_on_a_gpu_is_joined_to_its_session_and_its_owner() -> None:
    owner = factories.user("ann")
    session = factories.session(state=State.RUNNING, owner=owner)
    process = GpuProcess(pid=900, gpu_uuid="GPU-1", memory_bytes=5 * GIB, sm_percent=60.0)
    found = look(reading(900, run=session.pk), on_gpus=[process])
    [row] = found.rows
    assert row == {
        "pid": 900,
        "user": "ann",
        "command": "python -m ml.train",
        "kind": "training",
        "session": session.pk,
        "owner": "ann",
        "gpu_uuid": "GPU-1",
        "gpu_memory_bytes": 5 * GIB,
        "gpu_sm_percent": 60.0,
        "cpu_percent": 50.0,
        "memory_bytes": GIB,
        "started_at": "2023-11-14T22:13:20Z",
        "reasons": {},
    }
    assert found.holders == {"GPU-1": {session.pk: 60.0}}
    assert found.sessions == {session.pk}


def test_children_of_a_marked_process_belong_to_the_same_session() -> None:
    session = factories.session(state=State.RUNNING)
    found = look(reading(900, run=session.pk), reading(901, parent=900), reading(902, parent=901))
    assert {row["pid"]: row["session"] for row in found.rows} == dict.fromkeys(
        (900, 901, 902), session.pk
    )


def test_where_the_mark_cannot_be_read_the_lock_of_the_run_tells() -> None:
    session = factories.session(state=State.RUNNING, host=socket.gethostname())
    run = RunDir(session.run_path)
    run.create({})
    lock = run.take_lock(1)
    try:
        found = look(reading(os.getpid()), reading(901, parent=os.getpid()))
    finally:
        os.close(lock)
    assert {row["session"] for row in found.rows} == {session.pk}


def test_a_run_of_another_server_is_outside() -> None:
    process = GpuProcess(pid=900, gpu_uuid="GPU-1", memory_bytes=GIB)
    found = look(reading(900, run="train_elsewhere"), on_gpus=[process])
    [row] = found.rows
    assert (row["kind"], row["session"], row["owner"]) == ("outside", None, None)
    assert found.holders == {"GPU-1": {"": 0.0}}


def test_somebody_elses_process_is_shown_only_where_it_uses_a_gpu() -> None:
    process = GpuProcess(pid=900, gpu_uuid="GPU-1", memory_bytes=GIB)
    found = look(reading(900, command="ollama"), reading(901), on_gpus=[process])
    assert [(row["pid"], row["kind"]) for row in found.rows] == [(900, "outside")]


def test_everything_below_serve_is_the_servers(tmp_path: Path, settings: Any) -> None:
    settings.VAR_DIR = tmp_path
    (tmp_path / "serve.pid").write_text("700\n")
    me = os.getpid()
    found = look(reading(700), reading(me, parent=700), reading(701, parent=700), reading(5))
    assert {row["pid"]: row["kind"] for row in found.rows} == dict.fromkeys(
        (700, me, 701), "server"
    )


def test_a_number_left_in_the_file_by_an_earlier_serve_makes_nobody_the_servers(
    tmp_path: Path, settings: Any
) -> None:
    settings.VAR_DIR = tmp_path
    (tmp_path / "serve.pid").write_text("5\n")
    found = look(reading(os.getpid()), reading(5))
    assert [row["pid"] for row in found.rows] == [os.getpid()]


def test_a_process_id_of_the_host_that_is_not_visible_here_says_so() -> None:
    process = GpuProcess(pid=31337, gpu_uuid="GPU-1", memory_bytes=GIB)
    [row] = look(on_gpus=[process]).rows
    assert (row["command"], row["user"], row["kind"]) == (None, None, "outside")
    assert "not visible" in row["reasons"]["command"]


def test_processes_that_are_each_others_parent_do_not_hang_it() -> None:
    process = GpuProcess(pid=8, gpu_uuid="GPU-1", memory_bytes=GIB)
    [row] = look(reading(8, parent=9), reading(9, parent=8), on_gpus=[process]).rows
    assert row["kind"] == "outside"


def test_this_very_machine_can_be_looked_at() -> None:
    found = ProcessJoiner().look([], {})
    own = next(row for row in found.rows if row["pid"] == os.getpid())
    assert own["kind"] == "server"
    assert own["memory_bytes"] > 0


def test_the_table_is_replaced_and_answered(client: Client) -> None:
    client.force_login(factories.user("looker", role="viewer"))
    host_sample()
    session = factories.session(state=State.RUNNING)
    store_processes(look(reading(900, run=session.pk)))
    store_processes(look(reading(901, run=session.pk)))
    body = client.get("/api/v1/system/processes/").json()
    assert [row["pid"] for row in body["results"]] == [901]
    assert body["reasons"] == {}
    assert ProcessTable.objects.count() == 1


def test_an_old_table_is_not_shown_as_if_it_were_true(client: Client) -> None:
    client.force_login(factories.user("looker", role="viewer"))
    assert "run_sampler" in client.get("/api/v1/system/processes").json()["reasons"]["sampler"]
    old = timezone.now() - timedelta(minutes=2)
    ProcessTable.objects.create(host="box", timestamp=old, processes=[{"pid": 1}])
    body = client.get("/api/v1/system/processes").json()
    assert body["results"] == []
    assert re.search(r"silent since 1\d\d s", body["reasons"]["sampler"])
