from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from tests.monitoring.rows import GIB, gpu_sample, host_sample

pytestmark = pytest.mark.django_db


@pytest.fixture
def signed_in(client: Client, stranger: User) -> Client:
    client.force_login(stranger)
    return client


def test_it_tells_what_the_machine_is_doing(signed_in: Client) -> None:
    gpu_sample(host_sample(reasons={"disk_io": "This system counts no disk traffic."}))
    body = signed_in.get("/api/v1/system/info").json()
    assert body["host"] == "box"
    assert body["is_stale"] is False
    assert body["cpu"] == {
        "percent": 12.5,
        "per_core": [5.0, 20.0],
        "count": 2,
        "load_1m": 0.5,
        "load_5m": None,
        "load_15m": None,
    }
    assert body["disk"]["percent"] == 40.0
    assert set(body["pressure"]) == {"cpu_percent", "memory_percent", "io_percent"}
    assert body["memory"]["percent"] == 25.0
    assert body["disk"]["free_bytes"] == 60 * GIB
    assert body["disk"]["read_bytes_per_second"] is None
    assert body["reasons"] == {"disk_io": "This system counts no disk traffic."}
    assert body["gpus"][0]["busy_percent"] == 37.0
    assert body["gpus"][0]["temperature_celsius"] is None


def test_the_gpus_alone_with_the_words_of_their_limits(signed_in: Client) -> None:
    sample = host_sample()
    gpu_sample(sample, limits=["hw_thermal"], details={"ecc_uncorrected": 0})
    gpu_sample(sample, uuid="MIG-1", parent_uuid="GPU-1234", details={"mig_index": 0})
    body = signed_in.get("/api/v1/system/gpus").json()
    assert [gpu["parent_uuid"] for gpu in body["results"]] == ["", "GPU-1234"]
    assert body["results"][0]["limits"] == [
        {"code": "hw_thermal", "text": "Slowed down by the hardware: too hot", "level": "warning"}
    ]
    assert body["results"][0]["details"] == {"ecc_uncorrected": 0}


def test_no_gpus_are_an_empty_list_with_the_reason(signed_in: Client) -> None:
    host_sample()
    assert signed_in.get("/api/v1/system/gpus/").json() == {
        "results": [],
        "reason": "No NVIDIA driver found – running on CPU.",
    }


def test_without_a_gpu_there_is_a_reason(signed_in: Client) -> None:
    host_sample()
    body = signed_in.get("/api/v1/system/info/").json()
    assert body["gpus"] == []
    assert body["gpu_reason"] == "No NVIDIA driver found – running on CPU."


def test_old_readings_are_null_with_the_reason(signed_in: Client) -> None:
    host_sample(timestamp=timezone.now() - timedelta(seconds=34))
    body = signed_in.get("/api/v1/system/info").json()
    assert body["is_stale"] is True
    assert 34 <= (age := body["age_seconds"]) < 94
    assert body["cpu"]["percent"] is None
    assert body["reasons"]["sampler"] == f"The sampler is silent since {age} s."


def test_before_the_first_reading_it_says_how_to_get_one(signed_in: Client) -> None:
    body = signed_in.get("/api/v1/system/info").json()
    assert body["timestamp"] is None
    assert "manage.py run_sampler" in body["reasons"]["sampler"]


def test_it_needs_a_key(client: Client) -> None:
    assert client.get("/api/v1/system/info").status_code == 401
