"""Django's admin: every table can be looked at, nothing is changed past the services."""

from pathlib import Path

import pytest
from django.apps import apps
from django.contrib import admin as django_admin
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from django_q.models import Failure, OrmQ, Schedule, Success, Task
from pytest_django import DjangoAssertNumQueries

from datasets.models import Dataset, DatasetVersion
from jobs.models import Job, LogLine, QueueHold, State, WebhookDelivery
from models_registry.models import ModelAlias, ModelVersion, RegisteredModel
from monitoring.models import (
    Alert,
    AlertDelivery,
    AlertRule,
    ClusterHeartbeat,
    GpuSample,
    HardwareEvent,
    HistoryBucket,
    HostSample,
    ProcessTable,
)
from sessions.models import Artifact, EpochMetric, Experiment, MetricPoint, TrainingSession
from tests import factories
from tests.models_registry.folders import register
from tests.monitoring.rows import gpu_sample, heartbeats, host_sample

TABLES = [
    Job, LogLine, WebhookDelivery, QueueHold, Success, Failure, OrmQ, Schedule,
    Dataset, DatasetVersion,
    RegisteredModel, ModelVersion, ModelAlias,
    TrainingSession, Experiment, EpochMetric, MetricPoint, Artifact,
    HostSample, GpuSample, HistoryBucket, ProcessTable, HardwareEvent, ClusterHeartbeat,
    AlertRule, Alert, AlertDelivery,
]  # fmt: skip
OURS = ("accounts", "jobs", "datasets", "models_registry", "training_sessions", "monitoring")
WITHOUT_PAGE = {"accounts.RateBucket"}  # counters that live for a minute


@pytest.fixture
def desk(admin: User) -> Client:
    client = Client()
    client.force_login(admin)
    return client


def fill() -> None:
    """One row of each table."""
    session = factories.session()
    version = factories.model_version()
    LogLine.objects.create(job=session.job, message="<b>hello</b>")
    WebhookDelivery.objects.create(job=session.job, event="started", payload={})
    ModelAlias.objects.create(model=version.model, version=version, name="champion")
    Experiment.objects.create(name="first")
    EpochMetric.objects.create(session=session, epoch=1, loss=0.5)
    MetricPoint.objects.create(session=session, key="loss", step=1, value=0.5)
    fill_queue()
    fill_monitoring()
    Artifact.objects.create(
        session=session, name="a", path="a", size_bytes=1, sha256="0", type="file"
    )


def fill_queue() -> None:
    QueueHold.objects.create(kind="train", by="owner", reason="maintenance")
    times = {"started": timezone.now(), "stopped": timezone.now()}
    for success in (True, False):
        task = Task(id=f"task{success}", name="one", func="x.y", success=success, **times)
        task.args, task.result = ("secret argument",), "secret result"
        task.save()
    OrmQ.objects.create(key="gpu", payload="no package")
    Schedule.objects.create(name="nightly", func="x.y")


def fill_monitoring() -> None:
    sample = host_sample()
    gpu_sample(sample)
    heartbeats()
    HistoryBucket.objects.create(host="box", width=10, start=0, count=1, values={})
    ProcessTable.objects.create(host="box", processes=[{}])
    HardwareEvent.objects.create(host="box", kind="xid", message="fell off the bus")
    rule = AlertRule.objects.create(name="hot", metric="cpu_percent", threshold=90)
    Alert.objects.create(
        rule=rule, name="hot", severity="warning", host="box", value=1, since=timezone.now()
    )
    AlertDelivery.objects.create(message_id="m1", rule=rule, url="https://x.test", payload={})


def path(model: type, rest: str = "") -> str:
    meta = model._meta  # type: ignore[attr-defined]
    return f"/admin/{meta.app_label}/{meta.model_name}/{rest}"


@pytest.mark.parametrize("model", TABLES)
def test_a_table_is_listed_searched_and_shown(desk: Client, model: type) -> None:
    fill()
    row = model.objects.order_by("pk").first()  # type: ignore[attr-defined]
    for address in (path(model), path(model, "?q=x"), path(model, f"{quote(row.pk)}/change/")):
        assert desk.get(address).status_code == 200, address


def test_every_table_of_ours_has_its_page() -> None:
    tables = [model for app in OURS for model in apps.get_app_config(app).get_models()]
    missing = {m._meta.label for m in tables if not django_admin.site.is_registered(m)}
    assert missing == WITHOUT_PAGE


@pytest.mark.parametrize("model", [Success, Failure, OrmQ])
def test_what_the_queue_pickled_is_neither_read_nor_shown(
    desk: Client, model: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill()
    key = model.objects.values_list("pk", flat=True).first()  # type: ignore[attr-defined]

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    monkeypatch.setattr("pickle.loads", refuse)
    for address in (path(model), path(model, f"{quote(key)}/change/")):
        page = desk.get(address)
        assert page.status_code == 200
        assert "secret" not in page.content.decode()


@pytest.mark.parametrize("model", TABLES)
def test_nothing_is_added_changed_or_deleted(desk: Client, model: type) -> None:
    fill()
    row = model.objects.order_by("pk").first()  # type: ignore[attr-defined]
    for rest in ("add/", f"{quote(row.pk)}/delete/", f"{quote(row.pk)}/change/"):
        assert desk.post(path(model, rest), {"name": "x"}).status_code == 403, rest


@pytest.mark.parametrize("model", [Job, TrainingSession, ModelVersion])
def test_a_long_list_costs_no_more(
    desk: Client, model: type, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(5):
        factories.session()
        factories.model_version()
    with django_assert_max_num_queries(12):
        assert desk.get(path(model)).status_code == 200


def act(desk: Client, model: type, action: str, *rows: object) -> str:
    chosen = {"action": action, "_selected_action": [str(row) for row in rows]}
    return desk.post(path(model), chosen, follow=True).content.decode()


@pytest.mark.parametrize("model", [Job, TrainingSession])
def test_a_session_is_cancelled_and_an_ended_one_is_named(desk: Client, model: type) -> None:
    waiting, ended = factories.session(), factories.session(state=State.COMPLETED)
    page = act(desk, model, "cancel", waiting.pk, ended.pk)
    assert "Cancelled: 1." in page
    assert "has already ended" in page
    waiting.job.refresh_from_db()
    ended.job.refresh_from_db()
    assert (waiting.job.state, ended.job.state) == (State.CANCELLED, State.COMPLETED)


def test_a_session_is_paused_and_resumed(desk: Client) -> None:
    waiting = factories.session()
    assert "Pausing: 1." in act(desk, TrainingSession, "pause", waiting.pk)
    assert "Resumed: 1." in act(desk, TrainingSession, "resume", waiting.pk)
    assert "not paused" in act(desk, TrainingSession, "resume", waiting.pk)


def test_alerts_are_acknowledged_and_rules_muted(desk: Client) -> None:
    fill_monitoring()
    rule, alert = AlertRule.objects.get(name="hot"), Alert.objects.get()
    assert "Muted: 1." in act(desk, AlertRule, "mute_for_an_hour", rule.pk)
    assert "Acknowledged: 1." in act(desk, Alert, "acknowledge", alert.pk)
    rule.refresh_from_db()
    alert.refresh_from_db()
    assert rule.muted_until is not None
    assert alert.acknowledged_by == "admin"


def test_a_long_table_is_counted_only_so_far(desk: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlserver.lib.facts.MOST_COUNTED", 2)
    for _ in range(4):
        factories.job()
    assert desk.get(path(Job)).context["cl"].result_count == 2


@pytest.mark.django_db(transaction=True)
def test_deleting_a_model_moves_its_files_to_the_trash(tmp_path: Path) -> None:
    desk = Client()
    desk.force_login(factories.user(role="admin"))
    version = register(tmp_path / "model", None)
    kept = register(tmp_path / "model", None)
    ModelAlias.objects.create(model=kept.model, version=kept, name="champion")
    page = act(desk, ModelVersion, "throw_away", version.pk, kept.pk)
    assert "Deleted: 1." in page
    assert "the alias champion points at it" in page
    assert not version.folder.exists()
    assert kept.folder.exists()
