import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from django.db import OperationalError
from django.utils import timezone
from django_q.models import OrmQ

from monitoring import pulse as pulse_module
from monitoring.models import ClusterHeartbeat
from monitoring.pulse import Pulse, answers
from monitoring.tasks import canary
from tests.monitoring.rows import heartbeats, host_sample

CLUSTERS = {"queue": "default", "gpu-queue": "gpu"}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def signs() -> list[str]:
    return []


@pytest.fixture
def pulse(db: None, clock: Clock, signs: list[str], monkeypatch: pytest.MonkeyPatch) -> Pulse:
    monkeypatch.setattr(pulse_module, "answers", lambda address: True)
    return Pulse(address=("127.0.0.1", 1), clusters=CLUSTERS, report_sign=signs.append, clock=clock)


def waiting() -> list[str]:
    return sorted(OrmQ.objects.values_list("key", flat=True))


def take(cluster: str) -> None:
    """What the cluster does with its canaries."""
    OrmQ.objects.filter(key=cluster).delete()
    canary(cluster)


def test_each_cluster_gets_one_canary(pulse: Pulse) -> None:
    pulse.look()
    pulse.look()
    assert waiting() == ["default", "gpu"]


def test_a_canary_that_was_taken_is_a_sign_of_life(pulse: Pulse, signs: list[str]) -> None:
    pulse.look()
    signs.clear()
    take("gpu")
    pulse.look()
    assert signs == ["gpu-queue"]


def test_the_next_one_is_sent_after_fifteen_seconds_and_only_when_the_last_was_taken(
    pulse: Pulse, clock: Clock
) -> None:
    pulse.look()
    take("gpu")
    clock.now += 14
    pulse.look()
    assert waiting() == ["default"]
    clock.now += 2
    pulse.look()
    assert waiting() == ["default", "gpu"]


def test_a_canary_that_never_comes_back_is_sent_again(pulse: Pulse, clock: Clock) -> None:
    pulse.look()
    OrmQ.objects.all().delete()
    clock.now += 61
    pulse.look()
    assert waiting() == ["default", "gpu"]


def test_a_heartbeat_from_before_the_start_is_no_sign(pulse: Pulse, signs: list[str]) -> None:
    heartbeats(seen_at=timezone.now() - timedelta(hours=1))
    pulse.look()
    pulse.look()
    assert signs.count("queue") == 0


def test_new_samples_are_signs_of_the_sampler(pulse: Pulse, signs: list[str]) -> None:
    pulse.look()
    signs.clear()
    host_sample()
    pulse.look()
    pulse.look()
    assert signs == ["sampler"]


def test_a_database_that_is_away_is_nobodys_fault(
    pulse: Pulse, signs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: object) -> None:
        raise OperationalError("database is locked")

    monkeypatch.setattr(pulse, "_look_at_clusters", lambda: away(None))
    pulse.look()
    assert {"queue", "gpu-queue", "sampler"} <= set(signs)


def test_the_canary_leaves_a_heartbeat(db: None) -> None:
    canary("gpu")
    first = ClusterHeartbeat.objects.get(cluster="gpu").seen_at
    canary("gpu")
    assert ClusterHeartbeat.objects.get(cluster="gpu").seen_at > first


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health/live" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def web() -> Iterator[tuple[str, int]]:
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield "127.0.0.1", server.server_port
        server.shutdown()
        thread.join()


def test_the_web_is_asked_over_http(web: tuple[str, int]) -> None:
    assert answers(web)


def test_nobody_there_and_nonsense_are_no_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse_module, "PROBE_TIMEOUT_SECONDS", 0.3)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        address = deaf.getsockname()
        assert not answers(address)
    assert not answers(address)
