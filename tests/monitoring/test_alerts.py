"""When an alert opens and closes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django_q.models import OrmQ, Schedule

from monitoring import alerts, tasks
from monitoring.models import Alert, AlertDelivery, AlertRule, HostSample
from tests.monitoring.alert_scene import START, Metric, rule, run, sample
from tests.monitoring.rows import gpu_sample

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("only_own_rules")]


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


# --- The sampler is silent ----------------------------------------------------------------------


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
