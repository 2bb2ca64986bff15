"""What is gathered of a session for its diagnosis, and how REST answers it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from jobs.models import State
from ml.config import parse_config
from monitoring.models import GpuSample, HostSample
from sessions.metrics import find_not_finite
from sessions.models import EpochMetric, MetricPoint, TrainingSession
from tests import factories

pytestmark = pytest.mark.django_db
CONFIG = parse_config({"dataset": "d", "learning_rate": 0.01}).to_dict()


def make_session(**values: Any) -> TrainingSession:
    now = timezone.now()
    return factories.session(
        config=CONFIG,
        state=State.COMPLETED,
        started_at=now - timedelta(seconds=60),
        finished_at=now,
        **values,
    )


def add_points(session: TrainingSession, key: str, values: list[float | None]) -> None:
    MetricPoint.objects.bulk_create(
        MetricPoint(session=session, key=key, step=step, value=value)
        for step, value in enumerate(values, 1)
    )


def get(user: User, session: TrainingSession, what: str) -> Any:
    client = Client()
    client.force_login(user)
    answer = client.get(f"/api/v1/sessions/{session.pk}/{what}")
    assert answer.status_code == 200, answer.content
    return answer.json()


def sample_gpu(busy_percent: float, seconds_ago: float) -> None:
    taken = timezone.now() - timedelta(seconds=seconds_ago)
    host = HostSample.objects.create(
        host="box",
        timestamp=taken,
        cpu_percent=40.0,
        memory_total_bytes=100,
        memory_used_bytes=25,
        gpu_count=1,
    )
    GpuSample.objects.create(
        host_sample=host,
        index=0,
        uuid="GPU-1",
        name="a GPU",
        busy_percent=busy_percent,
        memory_total_bytes=80,
        memory_used_bytes=20,
    )


def test_a_session_that_has_said_nothing_has_no_diagnosis(stranger: User) -> None:
    found = get(stranger, factories.session(config=CONFIG), "diagnosis")
    assert found == {
        "findings": [],
        "step_seconds": None,
        "not_finite": None,
        "basis": {"epochs": 0, "steps": 0, "gpu_readings": 0},
    }


def test_the_diagnosis_says_the_numbers_that_led_to_it(stranger: User) -> None:
    session = make_session()
    add_points(session, "data_seconds", [0.03] * 30)
    add_points(session, "compute_seconds", [0.01] * 30)
    found = get(stranger, session, "diagnosis")
    assert [one["code"] for one in found["findings"]] == ["waits_for_data"]
    assert found["findings"][0]["evidence"]["share"] == pytest.approx(0.75)
    assert found["step_seconds"] == pytest.approx({"data_seconds": 0.03, "compute_seconds": 0.01})


def test_the_step_that_left_the_numbers_is_named(stranger: User) -> None:
    session = make_session(error_code="diverged")
    add_points(session, "loss", [1.0, 2.0, 3.0, None])
    add_points(session, "grad_norm", [1.0, None, 2.0])  # fp16 skips such a step
    assert find_not_finite(session) == ("loss", 4)
    assert get(stranger, session, "diagnosis")["not_finite"] == {"series": "loss", "step": 4}


def test_a_skipped_step_of_fp16_is_no_end(stranger: User) -> None:
    session = make_session()
    add_points(session, "grad_norm", [1.0, None, 2.0])
    assert get(stranger, session, "diagnosis")["not_finite"] is None


def test_the_readings_of_its_gpu_are_looked_at(stranger: User) -> None:
    session = make_session(summary={"environment": {"device": "cuda:0"}})
    for seconds in range(5, 25):
        sample_gpu(12.0, seconds)
    found = get(stranger, session, "diagnosis")
    assert [one["code"] for one in found["findings"]] == ["leaves_gpu_idle"]
    assert found["basis"]["gpu_readings"] == 20


def test_the_hardware_of_its_time_comes_with_the_gpu_it_trains_on(stranger: User) -> None:
    session = make_session(summary={"environment": {"device": "cuda:0"}})
    sample_gpu(12.0, 300)  # before it began
    sample_gpu(90.0, 20)
    sample_gpu(70.0, 19)
    found = get(stranger, session, "hardware")
    assert found["series"]["gpu_busy_percent"] == [90.0, 70.0]
    assert found["series"]["cpu_percent"] == [40.0, 40.0]
    assert found["series"]["gpu_memory_percent"] == [25.0, 25.0]
    assert found["reason"] is None


def test_a_training_on_the_cpu_has_no_readings_of_a_gpu(stranger: User) -> None:
    session = make_session(summary={"environment": {"device": "cpu"}})
    sample_gpu(90.0, 20)
    assert set(get(stranger, session, "hardware")["series"]) == {"cpu_percent", "memory_percent"}


def test_without_readings_it_says_why(stranger: User) -> None:
    waiting = get(stranger, factories.session(), "hardware")
    assert waiting["reason"] == "It has not started yet."
    assert "no reading" in get(stranger, make_session(), "hardware")["reason"]


def test_the_series_say_when_each_step_was(stranger: User) -> None:
    session = make_session()
    add_points(session, "loss", [1.0, 0.5])
    series = get(stranger, session, "series?keys=loss")["series"]["loss"]
    first = MetricPoint.objects.get(session=session, step=1).timestamp.timestamp()
    assert series["times"][0] == pytest.approx(first, abs=1e-3)
    reduced = get(stranger, session, "series?keys=loss&max_points=2")["series"]["loss"]
    assert len(reduced["times"]) == len(reduced["steps"])


def test_a_session_with_epochs_of_validation_alone_is_read(stranger: User) -> None:
    session = make_session()
    EpochMetric.objects.create(session=session, epoch=1, loss=None, val_loss=0.3, extra={})
    assert get(stranger, session, "diagnosis")["basis"]["epochs"] == 1
