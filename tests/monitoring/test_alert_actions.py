"""What a rule does, and how the word gets out."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from django_q.models import OrmQ
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from jobs.models import LogLine, QueueHold, State, Wanted
from monitoring import alerts, notices, tasks
from monitoring.models import Alert, AlertDelivery
from tests import factories
from tests.lib.receiver import receiver, reply
from tests.monitoring.alert_scene import START, Metric, processes, rule, run, sample
from tests.monitoring.rows import GIB

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("only_own_rules")]


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


# --- Webhooks -----------------------------------------------------------------------------------


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
