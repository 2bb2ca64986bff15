"""Rules, alerts, what they do, and how the word gets out."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from django_q.models import OrmQ, Schedule
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from jobs.models import LogLine, QueueHold, State, Wanted
from monitoring import alerts, notices, tasks
from monitoring.models import (
    Alert,
    AlertDelivery,
    AlertRule,
    HardwareEvent,
    HostSample,
    ProcessTable,
)
from tests import factories
from tests.lib.receiver import receiver, reply
from tests.monitoring.rows import GIB, gpu_sample, host_sample

pytestmark = pytest.mark.django_db

START = datetime.fromisoformat("2026-01-06T10:00:00+00:00")
Metric = AlertRule.Metric


@pytest.fixture(autouse=True)
def _only_own_rules(db: None) -> None:
    AlertRule.objects.all().delete()


def rule(metric: str = Metric.GPU_TEMPERATURE, **values: Any) -> AlertRule:
    defaults = {"name": "hot", "threshold": 85, "clear_threshold": 82, "for_seconds": 60}
    return AlertRule.objects.create(metric=metric, **{**defaults, **values})


def sample(seconds: float, gpu: dict[str, Any] | None = None, **host: Any) -> HostSample:
    row = host_sample(timestamp=START + timedelta(seconds=seconds), **host)
    if gpu is not None:
        gpu_sample(row, **gpu)
    return row


def hot(seconds: float, celsius: float | None) -> list[Alert]:
    row = sample(seconds, {"temperature_celsius": celsius})
    return alerts.evaluate(row.timestamp, row)


def run(values: list[float | None], step: float = 5, start: float = 0) -> list[tuple[float, str]]:
    """What opened and closed when, at one value every few seconds."""
    told = []
    for place, value in enumerate(values):
        seconds = start + place * step
        told += [(seconds, alert.state) for alert in hot(seconds, value)]
    return told


# --- Opening and closing ------------------------------------------------------------------------


def test_it_opens_after_its_time_and_closes_beyond_the_clear_threshold() -> None:
    rule(for_seconds=10)
    assert run([80, 85, 90, 91, 84, 83, 85, 81, 80]) == [(15, "open"), (35, "closed")]
    alert = Alert.objects.get()
    assert (alert.host, alert.subject, alert.value) == ("box", "GPU-1234", 91)
    assert alert.since == START + timedelta(seconds=5)


def test_a_value_that_dips_below_its_threshold_begins_its_time_anew() -> None:
    rule(for_seconds=10)
    assert run([85, 85, 84.9, 85, 85, 85]) == [(25, "open")]


def test_a_rule_without_a_time_opens_at_once() -> None:
    rule(for_seconds=0)
    assert run([85]) == [(0, "open")]


def test_a_rule_may_look_for_too_little() -> None:
    rule(comparison="below", threshold=5, clear_threshold=10, for_seconds=0)
    assert run([5, 4, 9, 10]) == [(5, "open"), (15, "closed")]


def test_each_gpu_has_its_own_alert() -> None:
    rule(for_seconds=0)
    row = sample(0, {"temperature_celsius": 90.0})
    gpu_sample(row, index=1, uuid="GPU-2", temperature_celsius=91.0)
    assert len(alerts.evaluate(row.timestamp, row)) == 2
    row = sample(1, {"temperature_celsius": 60.0})
    gpu_sample(row, index=1, uuid="GPU-2", temperature_celsius=91.0)
    alerts.evaluate(row.timestamp, row)
    assert [alert.subject for alert in Alert.objects.open()] == ["GPU-2"]


def test_a_reading_that_is_missing_neither_opens_nor_closes() -> None:
    rule(for_seconds=10)
    assert run([85, None, 85, 85, 85]) == [(20, "open")]
    assert run([None, None], start=25) == []
    assert Alert.objects.open().count() == 1


def test_a_gap_in_the_samples_is_no_time_that_it_held() -> None:
    rule(for_seconds=60)
    assert run([90, 90]) == []
    assert run([90, 90], start=100) == []
    assert Alert.objects.get().since == START + timedelta(seconds=100)


def test_a_sampler_that_starts_again_at_once_goes_on_where_it_was() -> None:
    """Nothing lies in memory: each call stands for another process."""
    rule(for_seconds=10)
    assert run([90, 90, 90], step=5) == [(10, "open")]


def test_a_gpu_that_vanished_is_not_well() -> None:
    rule(for_seconds=0)
    run([90])
    row = sample(5)
    assert alerts.evaluate(row.timestamp, row) == []
    assert Alert.objects.open().count() == 1


def test_switching_a_rule_off_or_deleting_it_closes_its_alerts() -> None:
    one = rule(for_seconds=0)
    run([90])
    AlertRule.objects.update(is_enabled=False)
    assert run([90], start=5) == [(5, "closed")]
    AlertRule.objects.update(is_enabled=True)
    run([90], start=10)
    one.delete()
    assert run([90], start=15) == [(15, "closed")]


def test_two_machines_do_not_touch_each_others_alerts() -> None:
    rule(for_seconds=0)
    run([90])
    row = sample(5, {"temperature_celsius": 30.0}, host="other")
    assert alerts.evaluate(row.timestamp, row) == []
    assert Alert.objects.open().get().host == "box"


def test_a_quiet_look_costs_few_queries(django_assert_num_queries: Any) -> None:
    for number, metric in enumerate(Metric.values):
        rule(metric, name=str(number), threshold=1e9, clear_threshold=None)
    row = sample(0, {"temperature_celsius": 50.0})
    newest = HostSample.objects.prefetch_related("gpus").get(pk=row.pk)
    with django_assert_num_queries(4):  # living, rules, what runs, XIDs
        alerts.evaluate(row.timestamp, newest)


# --- What is measured ---------------------------------------------------------------------------


def value_of(metric: str, gpu: dict[str, Any] | None = None, **host: Any) -> float | None:
    from monitoring.alert_readings import Look, read

    found = list(read(metric, Look(sample(0, gpu, **host), START)))
    return found[0].value if found else None


def test_every_metric_has_a_reading() -> None:
    for metric in Metric.values:
        value_of(metric, {})


def test_shares_are_of_the_whole_and_unknown_where_a_part_is() -> None:
    assert value_of(Metric.MEMORY) == 25
    assert value_of(Metric.DISK) == 40
    assert value_of(Metric.DISK, disk_free_bytes=None) is None
    assert value_of(Metric.GPU_MEMORY, {"memory_used_bytes": 40_000_000_000}) == 50
    assert value_of(Metric.GPU_POWER, {"power_watts": 300.0}) is None


def test_only_limits_of_the_hardware_are_a_slowdown() -> None:
    assert value_of(Metric.GPU_SLOWDOWN, {"limits": ["sw_power_cap"]}) == 0
    assert value_of(Metric.GPU_SLOWDOWN, {"limits": ["idle", "hw_thermal"]}) == 1
    assert value_of(Metric.GPU_SLOWDOWN, {"reasons": {"limits": "too old"}}) is None


def test_a_gpu_that_does_not_answer_is_lost() -> None:
    assert value_of(Metric.GPU_LOST, {"reasons": {"gpu": "fell off the bus"}}) == 1
    assert value_of(Metric.GPU_LOST, {}) == 0


def test_errors_of_the_driver_count_for_ten_minutes() -> None:
    for minutes, kind in ((1, "xid"), (11, "xid"), (2, "ecc")):
        when = START - timedelta(minutes=minutes)
        HardwareEvent.objects.create(
            host="box", timestamp=when, uuid="GPU-1234", kind=kind, message="x"
        )
    assert value_of(Metric.GPU_XID, {}) == 1


def test_an_idle_gpu_matters_only_while_a_session_holds_it() -> None:
    assert value_of(Metric.GPU_HELD_BUSY, {"busy_percent": 0.0}) == 100
    factories.session(state=State.RUNNING, host="box", summary={"gpu": "0"})
    assert value_of(Metric.GPU_HELD_BUSY, {"busy_percent": 2.0}) == 2
    assert value_of(Metric.GPU_HELD_BUSY, {"busy_percent": 2.0, "index": 1}) == 100


# --- Words --------------------------------------------------------------------------------------


def processes(*rows: dict[str, Any]) -> None:
    empty = {"session": None, "owner": None, "gpu_uuid": None, "user": "ana", "command": "python"}
    ProcessTable.objects.create(
        host="box", timestamp=START, processes=[{**empty, "pid": 7, **row} for row in rows]
    )


def test_the_text_names_who_causes_it_largest_first() -> None:
    rule(Metric.GPU_MEMORY, threshold=97, clear_threshold=95, for_seconds=0)
    processes(
        {"gpu_uuid": "GPU-1234", "gpu_memory_bytes": 2 * GIB, "command": "jupyter"},
        {"gpu_uuid": "GPU-1234", "gpu_memory_bytes": 58 * GIB, "session": "train_1", "owner": "bo"},
        {"gpu_uuid": "GPU-other", "gpu_memory_bytes": 70 * GIB},
    )
    row = sample(0, {"memory_used_bytes": 78_400_000_000})
    [alert] = alerts.evaluate(row.timestamp, row)
    assert alert.message == (
        "GPU 0 (NVIDIA H100): VRAM used 98 %, at least 97 %. "
        "train_1 of bo uses 58.0 GiB VRAM; jupyter (PID 7, ana) uses 2.0 GiB VRAM."
    )


def test_a_full_disk_names_what_fills_it() -> None:
    rule(Metric.DISK, threshold=90, clear_threshold=None)
    factories.dataset_version(size_bytes=3 * GIB)
    for seconds in range(0, 65, 5):
        row = sample(seconds, disk_free_bytes=5 * GIB)
        opened = alerts.evaluate(row.timestamp, row)
    [alert] = opened
    assert alert.message == (
        "box: Disk used 95 %, at least 90 % for 1 min. Datasets take 3.0 GiB, models 0.0 GiB."
    )


def test_what_is_yes_or_no_has_no_number() -> None:
    rule(Metric.GPU_LOST, threshold=1, clear_threshold=None, for_seconds=0)
    row = sample(0, {"reasons": {"gpu": "It fell off the bus."}})
    [alert] = alerts.evaluate(row.timestamp, row)
    assert alert.message == "GPU 0 (NVIDIA H100): GPU that does not answer."


# --- What a rule does ---------------------------------------------------------------------------


def test_the_queue_is_held_until_it_is_over() -> None:
    rule(for_seconds=0, action="pause_queue")
    run([90])
    hold = QueueHold.objects.get()
    assert (hold.kind, hold.by) == ("train", "alert: hot")
    assert "GPU temperature 90 °C" in hold.reason
    run([60], start=5)
    assert not QueueHold.objects.exists()


def test_a_hold_that_somebody_lifted_before_is_no_trouble() -> None:
    rule(for_seconds=0, action="pause_queue")
    run([90])
    QueueHold.objects.all().delete()
    assert run([60], start=5) == [(5, "closed")]


def test_only_the_session_on_that_gpu_is_asked_for_a_checkpoint() -> None:
    rule(for_seconds=0, action="stop_session")
    here = factories.session(state=State.RUNNING, host="box")
    there = factories.session(state=State.RUNNING, host="box")
    processes({"gpu_uuid": "GPU-1234", "session": here.pk})
    run([90])
    here.job.refresh_from_db()
    there.job.refresh_from_db()
    assert (here.job.wanted, there.job.wanted) == (Wanted.PAUSE, Wanted.RUN)
    assert "by the alert “hot”" in LogLine.objects.get(job=here.job).message


def test_a_matter_of_the_host_pauses_all_that_run_there() -> None:
    rule(Metric.MEMORY, threshold=90, clear_threshold=80, for_seconds=0, action="stop_session")
    here = factories.session(state=State.RUNNING, host="box")
    elsewhere = factories.session(state=State.RUNNING, host="other")
    row = sample(0, memory_used_bytes=15 * GIB)
    alerts.evaluate(row.timestamp, row)
    here.job.refresh_from_db()
    elsewhere.job.refresh_from_db()
    assert (here.job.wanted, elsewhere.job.wanted) == (Wanted.PAUSE, Wanted.RUN)


def test_a_muted_rule_opens_without_message_action_or_call() -> None:
    one = rule(for_seconds=0, action="pause_queue", target="webhook", webhook_url="https://x/")
    alerts.mute(one, START + timedelta(hours=1))
    assert run([90]) == [(0, "open")]
    assert not QueueHold.objects.exists()
    assert not AlertDelivery.objects.exists()
    assert not Alert.objects.calling(START).exists()
    assert Alert.objects.calling(START + timedelta(hours=2)).exists()


def test_the_first_who_acknowledges_is_named_and_it_calls_no_more(owner: User) -> None:
    rule(for_seconds=0)
    run([90])
    alert = Alert.objects.calling().get()
    alerts.acknowledge(alert, "owner")
    assert alerts.acknowledge(alert, "teammate").acknowledged_by == "owner"
    assert not Alert.objects.calling().exists()
    assert Alert.objects.open().exists()


# --- The sampler is silent ------------------------------------------------------------------------


def silence(seconds: float) -> list[Alert]:
    return alerts.evaluate_silence(START + timedelta(seconds=seconds))


def test_silence_is_noticed_by_the_clock_and_ends_with_the_next_sample() -> None:
    rule(Metric.SILENCE, name="silent", threshold=30, clear_threshold=None, for_seconds=0)
    sample(0)
    assert silence(29) == []
    [alert] = silence(45)
    assert alert.message == "box: Sampler silent 45 s, at least 30 s."
    assert silence(60) == []
    row = sample(70)
    [closed] = alerts.evaluate(row.timestamp, row)
    assert closed.state == "closed"


def test_the_clock_is_in_the_schedule_and_sends_what_is_due() -> None:
    assert Schedule.objects.get(name="alerts").func == "monitoring.tasks.watch_alerts"
    AlertDelivery.objects.create(message_id="m", url="https://x/", payload={})
    tasks.watch_alerts()
    assert OrmQ.objects.count() == 1


# --- Webhooks --------------------------------------------------------------------------------


@pytest.fixture
def local(settings: Settings) -> None:
    settings.ALLOWED_PRIVATE_HOSTS = ["127.0.0.1"]


def test_opening_and_closing_are_told_once_each_by_a_task_and_not_by_the_sampler(
    local: None, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    with receiver() as told:
        rule(for_seconds=0, target="webhook", webhook_url=told.url + "/hook")
        with django_capture_on_commit_callbacks(execute=True):
            run([90, 91, 60])
        assert told.requests == []
        assert OrmQ.objects.count() == 2
        for pk in AlertDelivery.objects.order_by("id").values_list("pk", flat=True):
            tasks.deliver_alert(pk)
            tasks.deliver_alert(pk)  # a message of the queue may come twice
    bodies = [json.loads(body) for _, _, body in told.requests]
    assert [body["event"] for body in bodies] == ["alert.opened", "alert.closed"]
    assert bodies[0]["severity"] == "warning"
    assert set(AlertDelivery.objects.values_list("status", flat=True)) == {"delivered"}


def test_a_receiver_that_fails_is_asked_again_later_with_the_same_id(local: None) -> None:
    with receiver() as told:
        told.answer = lambda handler: reply(handler, 503)
        one = rule(target="webhook", webhook_url=told.url)
        delivery = notices.put_out(one, {"event": "alert.test"})
        now = timezone.now()
        failed = notices.deliver(delivery.pk)
        assert failed is not None
        assert (failed.attempts, failed.status) == (1, "pending")
        assert "503" in failed.error
        assert failed.next_at > now + timedelta(seconds=5)
        assert notices.list_due(now) == []
        assert notices.list_due(now + timedelta(minutes=1)) == [delivery.pk]
        told.answer = lambda handler: reply(handler, 200)
        AlertDelivery.objects.update(next_at=now)
        notices.deliver(delivery.pk)
    ids = {headers["webhook-id"] for _, headers, _ in told.requests}
    assert ids == {delivery.message_id}
    assert AlertDelivery.objects.get().status == "delivered"


def test_after_the_last_try_it_is_given_up(local: None, settings: Settings) -> None:
    settings.WEBHOOK_RETRY_LIMIT = 0
    one = rule(target="webhook", webhook_url="http://10.0.0.1/")
    delivery = notices.deliver(notices.put_out(one, {}).pk)
    assert delivery is not None
    assert delivery.status == "failed"
    assert "ALLOWED_PRIVATE_HOSTS" in delivery.error


def test_old_alerts_and_deliveries_are_forgotten() -> None:
    now = timezone.now()
    rule(for_seconds=0)
    run([90, 60])
    Alert.objects.update(closed_at=now - timedelta(days=91))
    AlertDelivery.objects.create(
        message_id="m", url="u", payload={}, created_at=now - timedelta(days=31)
    )
    tasks.watch_alerts()
    assert not Alert.objects.exists()
    assert not AlertDelivery.objects.exists()
