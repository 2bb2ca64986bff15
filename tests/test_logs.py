"""Log lines: one a record, without secrets, whatever happens; a file that processes share."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from accounts.services import create_key
from mlserver import logs
from mlserver.logs import Console, JsonFormatter, SharedFile, TextFormatter, scrub
from tests import factories
from tests.waiting import PATIENCE_SECONDS


def record(message: object, *arguments: Any, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("test", logging.INFO, __file__, 1, message, arguments, None)
    made.__dict__.update(extra)
    return made


def raised() -> Any:
    try:
        raise ValueError("first line\nsecond line")
    except ValueError:
        return sys.exc_info()


@given(st.text(alphabet=st.characters(), max_size=200))
def test_a_record_is_one_line_whatever_it_says(text: str) -> None:
    for formatter in (TextFormatter(), JsonFormatter()):
        line = formatter.format(record("%s", text, path=text, exc_info=raised()))
        assert len(line.splitlines()) == 1
        line.encode()
    assert json.loads(line)["logger"] == "test"


def test_a_text_line_has_time_level_logger_message_and_facts() -> None:
    line = TextFormatter().format(record("hello %s", "you", status=200, path="/a b status=500"))
    assert line.split(" ", 1)[1] == 'INFO test hello you path="/a b status=500" status=200'


def test_a_traceback_is_on_the_same_line() -> None:
    facts = json.loads(JsonFormatter().format(record("oh", exc_info=raised())))
    assert facts["exception"].startswith("Traceback")
    assert facts["exception"].endswith("ValueError: first line\nsecond line")
    text = TextFormatter().format(record("oh", exc_info=raised()))
    assert text.endswith("ValueError: first line\\nsecond line")


def test_wrong_arguments_lose_nothing() -> None:
    assert "%d apples ('three',)" in TextFormatter().format(record("%d apples", "three"))


def test_a_huge_message_is_cut() -> None:
    line = TextFormatter().format(record("x" * 10**6))
    assert len(line) < logs.LONGEST_TEXT + 200
    assert "characters more" in line


@pytest.mark.parametrize(
    "text",
    [
        "key mls_abcd1234_SECRETsecret-secret_123",
        "Authorization: Bearer SECRETsecret1234",
        "authorization: token SECRETsecret1234=",
        "{'password': 'SECRETsecret'}",
        '{"api_key": "SECRETsecret"}',
        "?token=SECRETsecret&x=1",
        "postgres://user:SECRETsecret@host/db",
        "jwt eyJhbGciOiJI.eyJSECRETsecret.c2lnbmF0dXJl",
    ],
)
def test_secrets_are_hidden(text: str) -> None:
    assert "SECRETsecret" not in scrub(text)
    assert "…" in scrub(text)


def test_the_servers_own_secrets_are_hidden_whatever_they_look_like(settings: Any) -> None:
    assert settings.SECRET_KEY not in scrub(f"it is {settings.SECRET_KEY}.")


@pytest.mark.parametrize(
    "text", ["Basic training runs", "token validation failed", "Training train_1: Epoch 1/3"]
)
def test_ordinary_words_stay(text: str) -> None:
    assert scrub(text) == text


# --- The file --------------------------------------------------------------------------------


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[SharedFile]:
    handler = SharedFile(tmp_path / "logs" / "server.log", max_bytes=200, kept=3)
    handler.setFormatter(logging.Formatter("%(message)s"))
    yield handler
    handler.close()


def test_the_file_is_rotated_and_the_oldest_is_forgotten(shared: SharedFile) -> None:
    for number in range(100):
        shared.handle(record(f"{number:099d}"))
    names = sorted(path.name for path in shared.path.parent.glob("*.log*"))
    numbered = ["server.log.1", "server.log.2", "server.log.3"]
    assert names == ["server.log", *numbered, "server.log.lock"]
    assert shared.path.with_name("server.log.1").read_text().endswith("98\n")


def test_a_file_that_was_moved_away_is_begun_anew(shared: SharedFile) -> None:
    shared.handle(record("one"))
    shared.path.rename(shared.path.with_name("taken"))
    shared.handle(record("two"))
    assert shared.path.read_text() == "two\n"


WRITER = """
import logging, sys
from pathlib import Path
from mlserver.logs import SharedFile
handler = SharedFile(Path(sys.argv[1]), max_bytes=20_000, kept=50)
for number in range(400):
    handler.handle(logging.makeLogRecord({"msg": f"{sys.argv[2]} {number:04d} " + "x" * 100}))
"""


def test_several_processes_write_and_rotate_without_losing_or_tearing_a_line(
    tmp_path: Path,
) -> None:
    path = tmp_path / "server.log"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in "abc"]
    assert [writer.wait(PATIENCE_SECONDS) for writer in writers] == [0, 0, 0]
    lines = [
        line for part in tmp_path.glob("server.log*") for line in part.read_text().splitlines()
    ]
    assert len(list(tmp_path.glob("server.log.*"))) > 3
    told = sorted(tuple(line.split()[:2]) for line in lines)
    assert told == sorted((name, f"{number:04d}") for name in "abc" for number in range(400))


def test_a_disk_that_is_full_stops_nothing_and_complains_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    handler = SharedFile(Path("/dev/full"))
    for _ in range(3):
        handler.handle(record("lost"))
    handler.close()
    told = capsys.readouterr().err
    assert told.count("A log line could not be written") == 1
    assert "No space left" in told


def test_a_stream_that_is_closed_stops_nothing(tmp_path: Path) -> None:
    stream = (tmp_path / "out").open("w")
    handler = Console(stream)
    stream.close()
    handler.handle(record("lost"))
    handler.close()


# --- The settings ----------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "style"), [("LOUD", "text"), ("INFO", "xml")])
def test_an_unknown_setting_stops_the_start(level: str, style: str, tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="must be one of"):
        logs.configuration(level=level, style=style, file=tmp_path / "log")


@pytest.mark.parametrize(
    ("argv", "stream"),
    [
        (["manage.py", "doctor"], "stderr"),
        (["manage.py", "run_sampler"], "stdout"),
        (["/x/uvicorn", "mlserver.asgi:application"], "stdout"),
    ],
)
def test_only_services_log_to_standard_output(
    argv: list[str], stream: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    made = logs.configuration(level="INFO", style="json", file=tmp_path / "log")
    assert made["handlers"]["console"]["stream"] == f"ext://sys.{stream}"


# --- Requests --------------------------------------------------------------------------------


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Any:
    """Requests as JSON, formatted while their origin is known."""
    lines: list[dict[str, Any]] = []

    class Keep(logging.Handler):
        def emit(self, one: logging.LogRecord) -> None:
            lines.append(json.loads(JsonFormatter().format(one)))

    logger, handler = logging.getLogger("mlserver.requests"), Keep()
    caplog.set_level(logging.DEBUG, logger="mlserver.requests")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@pytest.mark.django_db
def test_a_request_is_one_line_with_id_key_route_status_and_time(
    told: list[dict[str, Any]], owner: User
) -> None:
    key, raw = create_key(user=owner, name="test", role="operator")
    session = factories.session()
    headers = {"authorization": f"Bearer {raw}", "x-request-id": "abc-1"}
    Client().get(f"/api/v1/sessions/{session.pk}?search=private", headers=headers)
    (line,) = told
    assert (line["request_id"], line["key"], line["status"]) == ("abc-1", key.prefix, 200)
    assert (line["method"], line["path"]) == ("GET", f"/api/v1/sessions/{session.pk}")
    assert "session_id" in line["route"]
    assert line["ms"] > 0
    assert "private" not in json.dumps(line)


@pytest.mark.django_db
def test_a_refused_request_is_told_and_a_probe_only_in_detail(told: list[dict[str, Any]]) -> None:
    Client().get("/api/v1/me")
    Client().get("/health/live")
    assert [(line["status"], line["level"]) for line in told] == [(401, "INFO"), (200, "DEBUG")]


def test_only_a_traceback_is_told_beside_the_request_log() -> None:
    only = logs.OnlyExceptions()
    assert not only.filter(record("Service Unavailable: /health/ready"))
    assert only.filter(record("Internal Server Error", exc_info=raised()))
