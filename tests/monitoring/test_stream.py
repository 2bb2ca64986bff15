"""The streams through the real web server, in a thread, on a database in a file."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import psutil
import pytest
import uvicorn
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from accounts.models import ApiKey
from accounts.services import create_key
from jobs.models import Job, State
from monitoring import places
from monitoring import stream as stream_module
from sessions.models import MetricPoint, TrainingSession
from tests import factories
from tests.monitoring.rows import host_sample
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


class Server(uvicorn.Server):
    """uvicorn in a thread, on a port of its own."""

    def __init__(self) -> None:
        from mlserver.asgi import application

        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        super().__init__(
            uvicorn.Config(
                application, log_level="error", lifespan="off", timeout_graceful_shutdown=1
            )
        )


@pytest.fixture
def server(transactional_db: None) -> Iterator[Server]:
    places._taken.clear()  # the garbage of an earlier test may still hold one
    running = Server()
    thread = threading.Thread(target=running.run, args=([running.socket],))
    thread.start()
    wait_until(lambda: running.started)
    yield running
    running.should_exit = True
    thread.join()


@pytest.fixture
def key(server: Server) -> tuple[ApiKey, str]:
    return create_key(user=factories.user("reader", role="viewer"), name="k", role="viewer")


@pytest.fixture
def client(server: Server, key: tuple[ApiKey, str]) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {key[1]}", "Accept": "text/event-stream"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as opened:
        yield opened


@pytest.fixture
def session(server: Server) -> TrainingSession:
    return factories.session(state=State.RUNNING)


def events(response: httpx.Response) -> Iterator[tuple[str, str, Any]]:
    """(event, id, data) of each event; comments and `retry` are left out."""
    found: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            found[name] = value
        elif "event" in found:
            yield found["event"], found.get("id", ""), json.loads(found["data"])
            found = {}
        else:
            found = {}


def next_of(stream: Iterator[tuple[str, str, Any]], kind: str) -> Any:
    """Data of the next event of this kind. A state may be told twice: by the snapshot, and
    because it had changed a moment before."""
    return next(data for name, _, data in stream if name == kind)


def end(session: TrainingSession) -> None:
    Job.objects.filter(pk=session.pk).update(state=State.COMPLETED, updated_at=timezone.now())


def test_a_sample_arrives_while_the_stream_is_open(client: httpx.Client) -> None:
    host_sample(cpu_percent=1.0)
    with client.stream("GET", "/stream/?topics=system") as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache, no-transform"
        assert response.headers["x-accel-buffering"] == "no"
        stream = events(response)
        assert next(stream)[2]["cpu"]["percent"] == 1.0
        host_sample(cpu_percent=2.0)
        name, event_id, data = next(stream)
        assert (name, data["topic"], data["cpu"]["percent"]) == ("sample", "system", 2.0)
        assert "-" in event_id


def test_a_browser_that_is_signed_in_needs_no_key(server: Server) -> None:
    browser = Client()
    browser.force_login(factories.user("somebody", role="viewer"))
    host_sample()
    cookies = {name: morsel.value for name, morsel in browser.cookies.items()}
    with (
        httpx.Client(base_url=server.url, cookies=cookies, timeout=60) as client,
        client.stream("GET", "/stream?topics=system") as response,
    ):
        assert next(events(response))[0] == "sample"


def test_a_session_is_followed_to_its_end_and_then_bye(
    client: httpx.Client, session: TrainingSession
) -> None:
    with client.stream("GET", f"/api/v1/sessions/{session.pk}/events") as response:
        stream = events(response)
        name, _, data = next(stream)
        assert (name, data["id"], data["state"]) == ("session", session.pk, "running")
        MetricPoint.objects.create(session=session, key="loss", step=1, value=0.5)
        assert next_of(stream, "metric")["series"] == {"loss": [[1, 0.5]]}
        end(session)
        while next_of(stream, "session")["state"] != "completed":
            pass
        assert next_of(stream, "bye")["reason"] == "ended"
        assert list(stream) == []


def test_a_session_that_has_ended_says_so_and_bye(
    client: httpx.Client, session: TrainingSession
) -> None:
    end(session)
    with client.stream("GET", f"/api/v1/sessions/{session.pk}/events/") as response:
        names = [name for name, _, _ in events(response)]
    assert (names[0], names[-1]) == ("session", "bye")


def test_who_reconnects_gets_what_was_missed(
    client: httpx.Client, session: TrainingSession
) -> None:
    address = f"/stream/?topics=session:{session.pk}"
    with client.stream("GET", address) as response:
        last = next(events(response))[1]
    MetricPoint.objects.create(session=session, key="loss", step=1, value=0.5)
    with client.stream("GET", address, headers={"Last-Event-ID": last}) as response:
        names = []
        for name, _, _ in events(response):
            names.append(name)
            if name == "metric":
                break
        assert "notice" not in names


@pytest.mark.parametrize(
    ("address", "status", "code"),
    [
        ("/stream/?topics=weather", 422, "invalid"),
        ("/stream/", 422, "invalid"),
        ("/stream/?topics=session:nobody", 404, "not_found"),
        ("/api/v1/sessions/nobody/events", 404, "not_found"),
    ],
)
def test_what_cannot_be_followed_is_a_problem_before_the_stream_opens(
    client: httpx.Client, address: str, status: int, code: str
) -> None:
    response = client.get(address)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == code


def test_without_a_key_there_is_no_stream(server: Server) -> None:
    response = httpx.get(f"{server.url}/stream/?topics=system", timeout=60)
    assert response.status_code == 401


def test_too_many_streams_are_told_to_come_back(client: httpx.Client, settings: Settings) -> None:
    settings.MAX_EVENT_STREAMS = 1
    host_sample()
    with client.stream("GET", "/stream/?topics=system") as response:
        opened = events(response)  # kept: httpx closes what nobody reads any more
        next(opened)
        refused = client.get("/stream/?topics=system")
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        assert refused.json()["detail"].startswith("1 event streams are open, as many as")

    def has_a_place() -> bool:
        with client.stream("GET", "/stream/?topics=system") as response:
            return response.status_code == 200

    wait_until(has_a_place)  # the server sees that the reader left


def test_of_many_who_ask_at_once_as_many_get_a_stream_as_there_are_places(
    client: httpx.Client, settings: Settings
) -> None:
    settings.MAX_EVENT_STREAMS = 5
    everybody = threading.Barrier(16)

    def ask(_: int) -> int:
        everybody.wait()
        with client.stream("GET", "/stream/?topics=sessions") as response:
            everybody.wait()  # until all have their answer
            return response.status_code

    with ThreadPoolExecutor(16) as people:
        answers = Counter(people.map(ask, range(16)))
    assert answers == {200: 5, 503: 11}


def test_a_place_whose_stream_never_began_is_free_again(
    client: httpx.Client, settings: Settings
) -> None:
    settings.MAX_EVENT_STREAMS = 1
    place = places.take_place()
    assert client.get("/stream/?topics=sessions").status_code == 503
    del place
    with client.stream("GET", "/stream/?topics=sessions") as response:
        assert response.status_code == 200


def test_a_key_that_was_revoked_ends_the_stream(
    client: httpx.Client, key: tuple[ApiKey, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "RECHECK_SECONDS", 0.2)
    monkeypatch.setattr(stream_module, "KEEP_ALIVE_SECONDS", 0.1)
    with client.stream("GET", "/stream/?topics=sessions") as response:
        ApiKey.objects.update(revoked_at=timezone.now() - timedelta(seconds=1))
        [(name, _, data)] = events(response)
        assert (name, data["reason"]) == ("bye", "not_allowed")


def test_signing_out_ends_the_stream(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "RECHECK_SECONDS", 0.2)
    monkeypatch.setattr(stream_module, "KEEP_ALIVE_SECONDS", 0.1)
    browser = Client()
    person: User = factories.user("somebody")
    browser.force_login(person)
    cookies = {name: morsel.value for name, morsel in browser.cookies.items()}
    with (
        httpx.Client(base_url=server.url, cookies=cookies, timeout=60) as client,
        client.stream("GET", "/stream/?topics=sessions") as response,
    ):
        browser.logout()
        [(name, _, data)] = events(response)
        assert (name, data["reason"]) == ("bye", "not_allowed")


def test_a_silent_stream_is_kept_alive_by_comments(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "KEEP_ALIVE_SECONDS", 0.05)
    with client.stream("GET", "/stream/?topics=sessions") as response:
        lines = [line for line, _ in zip(response.iter_lines(), range(4), strict=False)]
    assert lines == ["retry: 2000", "", ": keep-alive", ""]


def test_under_wsgi_a_stream_is_refused_with_a_sentence(transactional_db: None) -> None:
    browser = Client()
    browser.force_login(factories.user("somebody"))
    response = browser.get("/stream/?topics=system")
    assert response.status_code == 503
    assert "manage.py serve" in response.json()["detail"]


def test_an_open_stream_keeps_no_database_connection(client: httpx.Client, server: Server) -> None:
    """One for the hub, however many streams. Each connection holds the log file once;
    the main file may stay open longer, because closing it would drop others' locks."""

    def count_connections() -> int:
        return sum(file.path.endswith("-wal") for file in psutil.Process().open_files())

    host_sample()
    with client.stream("GET", "/stream/?topics=system") as first:
        streams = [events(first)]
        next(streams[0])
        before = count_connections()
        with (
            client.stream("GET", "/stream/?topics=system") as second,
            client.stream("GET", "/stream/?topics=sessions,system") as third,
        ):
            streams += [events(second), events(third)]
            next(streams[1])
            next(streams[2])
            assert count_connections() <= before
