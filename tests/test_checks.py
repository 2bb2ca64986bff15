"""System checks: each complains about its own fault, and only about that."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from pytest_django import Settings

from mlserver.checks import (
    check_directories,
    check_failpoints,
    check_public_url,
    check_secret_key,
    check_sqlite,
)
from tests.servers import ROOT, environment


def ids(messages: Any) -> list[str]:
    return [message.id for message in messages]


@pytest.mark.parametrize(("value", "found"), [("1", ["mlserver.W002"]), ("0", []), ("", [])])
def test_planted_faults_are_told(
    monkeypatch: pytest.MonkeyPatch, value: str, found: list[str]
) -> None:
    monkeypatch.setenv("FAILPOINTS", value)
    assert ids(check_failpoints(None)) == found


def test_a_server_as_it_is_started_has_no_complaint() -> None:
    assert [check for check in run_checks() if not check.is_silenced()] == []


def test_data_inside_the_code_is_an_error(settings: Settings, tmp_path: Path) -> None:
    settings.DATASETS_DIR = ROOT / "datasets"
    assert ids(check_directories(None)) == ["mlserver.E001"]


def test_a_folder_that_is_missing_is_an_error(settings: Settings, tmp_path: Path) -> None:
    settings.MODELS_DIR = tmp_path / "nothing"
    (message,) = check_directories(None)
    assert message.id == "mlserver.E002"
    assert message.hint


def test_a_folder_that_is_a_file_is_an_error(settings: Settings, tmp_path: Path) -> None:
    settings.RUNS_DIR = tmp_path / "file"
    settings.RUNS_DIR.write_text("")
    assert ids(check_directories(None)) == ["mlserver.E002"]


@pytest.mark.parametrize("key", ["short", "a" * 60])
def test_a_weak_secret_is_an_error_that_does_not_tell_it(settings: Settings, key: str) -> None:
    settings.SECRET_KEY = key
    (message,) = check_secret_key(None)
    assert message.id == "mlserver.E003"
    assert key not in message.msg


@pytest.mark.parametrize("missing", ["transaction_mode", "timeout", "init_command"])
def test_sqlite_without_its_options_is_an_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    options = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA foreign_keys=ON;",
    }
    del options[missing]
    database = settings.DATABASES["default"]
    monkeypatch.setitem(database, "ENGINE", "django.db.backends.sqlite3")
    monkeypatch.setitem(database, "OPTIONS", options)
    assert ids(check_sqlite(None)) == ["mlserver.E004"]


def test_another_database_needs_none(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    database = settings.DATABASES["default"]
    monkeypatch.setitem(database, "ENGINE", "django.db.backends.postgresql")
    monkeypatch.setitem(database, "OPTIONS", {})
    assert check_sqlite(None) == []


def test_a_public_address_in_clear_text_is_a_warning(settings: Settings) -> None:
    settings.CSRF_TRUSTED_ORIGINS = ["http://ml.example.org"]
    assert ids(check_public_url(None)) == ["mlserver.W001"]


def test_a_server_behind_tls_is_ready_to_be_deployed(tmp_path: Path) -> None:
    env = environment(
        tmp_path,
        PUBLIC_URL="https://ml.example.org",
        ALLOWED_HOSTS="ml.example.org",
        TRUSTED_PROXIES="127.0.0.1",
        SECRET_KEY="k7#Vq2pL9xZt4mWb8cRf3nHs6yDj1gQa5eUo0iXvTz-KrMwEuBdNhPlSfGyCaJ",
    )
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
