from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client
from django.utils import timezone
from django_q.models import OrmQ
from pytest_django import Settings

from inference.models import LoadedModel
from inference.models import State as LoadState
from jobs.models import State
from mlserver.lib.single import only_one
from monitoring import health
from monitoring.tasks import canary
from tests import factories
from tests.monitoring.rows import GIB, gpu_sample, heartbeats, host_sample

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _manager(settings: Settings, tmp_path: Path) -> Iterator[None]:
    """Somebody keeps models in memory."""
    settings.VAR_DIR = tmp_path
    with only_one(tmp_path / "inference.pid"):
        yield


def get(client: Client, path: str = "/health", status: int = 200) -> Any:
    response = client.get(path)
    assert response.status_code == status
    return response.json()


def test_a_well_server_is_healthy_and_asks_for_no_key(client: Client) -> None:
    heartbeats()
    host_sample()
    body = get(client)
    assert body["status"] == "healthy"
    assert set(body["services"].values()) == {"ok"}
    assert set(body["services"]) == {
        "database",
        "queue",
        "gpu_workers",
        "sampler",
        "inference",
        "api",
    }
    assert set(body["lock"]) == {"landlock", "seccomp"}
    assert body["cpu_usage_percent"] == 12.5
    assert body["memory_used_mb"] == pytest.approx(4 * GIB / 1e6, abs=0.1)
    assert body["uptime_seconds"] > 0


def test_without_a_gpu_it_says_so(client: Client) -> None:
    host_sample()
    body = get(client)
    assert body["gpu_available"] is False
    assert (body["gpu_name"], body["cuda_version"], body["memory_allocated_gb"]) == (
        None,
        None,
        None,
    )


def test_the_gpu_is_named_from_the_last_sample(client: Client) -> None:
    gpu_sample(host_sample())
    body = get(client)
    assert body["gpu_available"] is True
    assert body["gpu_name"] == "NVIDIA H100"
    assert body["cuda_version"] == "12.4"
    assert body["memory_allocated_gb"] == 3.0


def test_the_memory_of_instances_is_not_counted_twice(client: Client) -> None:
    sample = host_sample()
    gpu_sample(sample)
    gpu_sample(sample, uuid="MIG-1", parent_uuid="GPU-1234")
    assert get(client)["memory_allocated_gb"] == 3.0


def test_nobody_who_keeps_models_in_memory_is_unhealthy(
    client: Client, settings: Settings, tmp_path: Path
) -> None:
    heartbeats()
    host_sample()
    settings.VAR_DIR = tmp_path / "nobody"
    body = get(client)
    assert (body["services"]["inference"], body["status"]) == ("silent", "unhealthy")


def test_it_counts_models_and_names_those_whose_worker_is_replaced(client: Client) -> None:
    heartbeats()
    ready = factories.model_version(name="one")
    LoadedModel.objects.create(version=ready, state=LoadState.READY)
    died = factories.model_version(name="two")
    LoadedModel.objects.create(version=died, state=LoadState.LOADING, stumbles=1)
    first = factories.model_version(name="three")
    LoadedModel.objects.create(version=first, state=LoadState.LOADING)
    assert get(client)["models_loaded"] == 1
    readiness = get(client, "/health/ready")
    assert (readiness["ready"], readiness["models_replaced"]) == (True, ["two@1"])


def test_it_counts_what_is_active(client: Client) -> None:
    factories.session(state=State.RUNNING)
    factories.session(state=State.QUEUED)
    factories.session(state=State.COMPLETED)
    body = get(client)
    assert (body["active_sessions"], body["active_jobs"]) == (1, 2)


def test_a_cluster_that_takes_no_canary_for_a_minute_makes_it_unhealthy(client: Client) -> None:
    host_sample()
    heartbeats(seen_at=timezone.now() - timedelta(seconds=61))
    canary("default")
    body = get(client)
    assert body["services"]["queue"] == "ok"
    assert body["services"]["gpu_workers"] == "silent"
    assert body["status"] == "unhealthy"


def test_old_readings_are_not_shown(client: Client) -> None:
    heartbeats()
    gpu_sample(host_sample(timestamp=timezone.now() - timedelta(seconds=20)))
    body = get(client)
    assert body["status"] == "healthy"
    assert body["cpu_usage_percent"] is None
    assert body["gpu_name"] is None


@pytest.mark.parametrize(
    ("memory", "cpu", "is_training", "status"),
    [
        (50, 20, False, "healthy"),
        (91, 20, False, "degraded"),
        (96, 20, False, "unhealthy"),
        (50, 99, False, "degraded"),
        (50, 99, True, "healthy"),
        (91, 99, True, "degraded"),
    ],
)
def test_memory_and_load_are_judged_and_our_own_training_is_no_fault(
    client: Client, memory: int, cpu: float, is_training: bool, status: str
) -> None:
    heartbeats()
    host_sample(memory_total_bytes=100, memory_used_bytes=memory, cpu_percent=cpu)
    if is_training:
        factories.session(state=State.RUNNING)
    assert get(client)["status"] == status


def test_it_answers_also_when_the_database_does_not(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> Any:
        raise OperationalError("database is locked")

    monkeypatch.setattr(health, "_check_services", away)
    monkeypatch.setattr(health, "_heard_within", away)
    body = get(client)
    assert body["status"] == "unhealthy"
    assert body["services"]["database"] == "unreachable"
    assert body["services"]["queue"] == "unknown"
    assert body["active_jobs"] is None
    assert get(client, "/health/ready", 503)["services"]["database"] == "unreachable"


def test_ready_needs_both_clusters(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "ANSWER_SECONDS", 0)
    canary("default")
    response = client.get("/health/ready")
    assert response.status_code == 503
    assert response["Retry-After"]
    assert response.json()["services"]["gpu_workers"] == "silent"
    canary("gpu")
    assert get(client, "/health/ready") == {
        "ready": True,
        "services": {"database": "ok", "queue": "ok", "gpu_workers": "ok"},
        "models_replaced": [],
    }


def test_clusters_that_run_without_serve_are_asked_by_who_wants_to_know(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    heartbeats(seen_at=timezone.now() - timedelta(hours=1))
    monkeypatch.setattr(health, "_sent_at", {})
    # What the clusters do with their messages, the moment these come.
    monkeypatch.setattr(health, "async_task", lambda _, name, **__: canary(name))
    assert get(client, "/health/ready")["ready"]


def test_a_dead_cluster_finds_one_canary_a_minute(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_sent_at", {})
    monkeypatch.setattr(health, "ANSWER_SECONDS", 0.2)
    for _ in range(3):
        assert get(client, "/health/ready", 503)["services"]["queue"] == "silent"
    assert sorted(OrmQ.objects.values_list("key", flat=True)) == ["default", "gpu"]


def test_live_asks_nobody(client: Client, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert get(client, "/health/live/") == {"status": "live"}


def test_health_is_cheap(client: Client, django_assert_max_num_queries: Any) -> None:
    heartbeats()
    gpu_sample(host_sample())
    with django_assert_max_num_queries(7):
        get(client)
