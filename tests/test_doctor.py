"""`manage.py doctor`: what it finds, how it says so, and what it leaves alone."""

import json
import sqlite3
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection
from django.utils import timezone
from pytest_django import Settings

from mlserver import doctor
from mlserver.doctor import ERROR, OK, SKIPPED, WARNING, Finding, examine, worst
from mlserver.lib.children import run_ml
from mlserver.lib.single import is_held, only_one
from monitoring import serving
from tests import factories
from tests.monitoring.rows import heartbeats, host_sample

pytestmark = pytest.mark.django_db
IDS = [
    "python", "settings", "database", "sqlite", "disk", "writing",
    "clock", "landlock", "gpu", "asgi", "queue", "sampler",
]  # fmt: skip
on_sqlite = pytest.mark.skipif(connection.vendor != "sqlite", reason="it asks about SQLite's file")


@pytest.fixture(autouse=True)
def own_var_dir(settings: Settings, tmp_path: Path) -> None:
    settings.VAR_DIR = tmp_path


def run(*arguments: str) -> tuple[str, int]:
    out, code = StringIO(), 0
    try:
        call_command("doctor", *arguments, stdout=out)
    except SystemExit as ended:
        code = int(ended.code or 0)
    return out.getvalue(), code


def only(monkeypatch: pytest.MonkeyPatch, *findings: Finding) -> None:
    checks = {each.id: (lambda each=each: each) for each in findings}
    monkeypatch.setattr(doctor, "CHECKS", checks)


def test_every_check_gives_a_finding_under_its_stable_id() -> None:
    findings = examine()
    assert [finding.id for finding in findings] == IDS
    for finding in findings:
        assert finding.message
        assert finding.fix or finding.status in (OK, SKIPPED), finding


def test_json_holds_the_same_findings() -> None:
    printed, _ = run("--json")
    body = json.loads(printed)
    assert [each["id"] for each in body["findings"]] == IDS
    assert set(body["findings"][0]) == {"id", "status", "message", "fix"}


@pytest.mark.parametrize(("status", "code"), [(OK, 0), (WARNING, 0), (ERROR, 1)])
def test_only_an_error_fails(status: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, Finding("disk", status, "this is so", "do that"))
    assert run("--json")[1] == code
    printed, ended = run()
    assert ended == code
    assert "→ do that" in printed


def test_the_worst_finding_counts() -> None:
    made = [Finding("a", OK, ""), Finding("b", ERROR, ""), Finding("c", WARNING, "")]
    assert (worst(made), worst(made[::2]), worst(made[:1])) == (ERROR, WARNING, OK)


@pytest.mark.parametrize("error", [RuntimeError("broken"), OperationalError("no such table")])
def test_a_check_that_fails_is_a_finding_and_hides_no_other(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Finding:
        raise error

    well = Finding("well", OK, "it is")
    monkeypatch.setattr(doctor, "CHECKS", {"broken": fail, "well": lambda: well})
    first, second = examine()
    assert (first.status, second) == (ERROR, well)
    assert str(error) in first.message


@on_sqlite
def test_an_old_sqlite_is_named_with_its_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 2))
    assert doctor.check_sqlite().status == WARNING
    assert "WAL-reset" in doctor.check_sqlite().message
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 3))
    assert doctor.check_sqlite().status == OK


@on_sqlite
def test_a_database_on_a_network_disk_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_filesystem", lambda folder: "nfs4")
    assert doctor.check_sqlite().status == ERROR


@pytest.mark.parametrize(("free", "status"), [(100, ERROR), (2**30, WARNING), (2**40, OK)])
def test_free_space(free: int, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": free}))
    assert doctor.check_disk().status == status


def test_a_folder_that_takes_no_files_is_named(settings: Settings, tmp_path: Path) -> None:
    settings.RUNS_DIR = tmp_path / "gone"
    finding = doctor.check_writing()
    assert finding.status == ERROR
    assert f"{tmp_path / 'gone'}: No such file or directory" in finding.message
    assert not list(tmp_path.glob(".doctor-*"))


def test_rows_from_the_future_mean_a_wrong_clock() -> None:
    factories.job(updated_at=timezone.now() + timedelta(hours=1))
    finding = doctor.check_clock()
    assert finding.status == ERROR
    assert "leases" in finding.fix


def test_a_driver_and_a_torch_that_do_not_fit() -> None:
    torch: dict[str, Any] = {
        "version": "2.13", "cuda": "CUDA 12.6", "hip": None, "devices": ["H100"], "reason": "",
    }  # fmt: skip
    judge = doctor.judge_torch
    assert judge(["H100"], torch).status == OK
    blind = judge(["H100"], {**torch, "devices": [], "reason": "The driver is too old."})
    assert (blind.status, "too old" in blind.message) == (WARNING, True)
    for_cpus = judge(["H100"], {**torch, "devices": [], "cuda": None})
    assert "a build for CPUs" in for_cpus.message


def test_torch_is_asked_in_a_child() -> None:
    torch = run_ml("torch", {}, memory_bytes=None)
    assert set(torch) == {"version", "cuda", "hip", "devices", "reason"}


def test_silence_is_an_error_only_while_the_server_runs(tmp_path: Path) -> None:
    assert [doctor.check_queue().status, doctor.check_sampler().status] == [WARNING, WARNING]
    with only_one(tmp_path / "serve.pid"):
        assert [doctor.check_queue().status, doctor.check_sampler().status] == [ERROR, ERROR]
        heartbeats()
        host_sample()
        assert [doctor.check_queue().status, doctor.check_sampler().status] == [OK, OK]


def test_looking_at_a_lock_takes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_held(path)
    with only_one(path):
        assert is_held(path)
        text = path.read_text()
    assert not is_held(path)
    assert path.read_text() == text


class Answering(BaseHTTPRequestHandler):
    def version_string(self) -> str:
        return "WSGIServer/0.2 CPython/3.11"

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing to standard error."""


@pytest.fixture
def answering(settings: Settings) -> Iterator[None]:
    server = HTTPServer(("127.0.0.1", 0), Answering)
    settings.API_HOST, settings.API_PORT = "0.0.0.0", server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_wsgi_server_is_an_error(answering: None) -> None:
    assert doctor.check_asgi().status == ERROR


def test_an_asgi_server_is_fine_and_none_is_no_error(
    answering: None, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setattr(Answering, "version_string", lambda self: "")
    assert doctor.check_asgi().status == OK
    settings.API_PORT = 1
    assert doctor.check_asgi().status == SKIPPED


def test_a_database_that_is_not_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise serving.CannotServe("The database is not up to date.")

    monkeypatch.setattr(doctor, "check_migrations", refuse)
    finding = doctor.check_database()
    assert (finding.status, finding.fix) == (ERROR, "run 'manage.py migrate'")
