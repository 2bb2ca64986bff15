"""Opens and closes alerts, once for each sample, and does what their rules ask for.

A rule that is reached makes a pending alert; after its time that opens; it closes when the
value is back beyond the clear threshold. Every step is a row, so a sampler that starts
again goes on where it was.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from accounts import audit
from jobs.holds import hold_queue, lift_hold
from jobs.models import LogLine
from jobs.services import WrongState, log, pause_job
from mlserver.lib.batches import delete_in_batches
from monitoring.alert_readings import Look, Reading, describe, read
from monitoring.models import Alert, AlertRule, HostSample
from monitoring.notices import notify
from sessions.models import TrainingSession

GAP = timedelta(seconds=10)
"""After so long without samples nobody can say that a value held all the time."""

CLOSED_KEPT = timedelta(days=90)

Living = dict[tuple[int | None, str], Alert]


def evaluate(now: datetime, sample: HostSample | None = None) -> list[Alert]:
    """Hold every rule against the newest sample; the alerts that opened or closed."""
    sample = sample or HostSample.objects.order_by("-id").prefetch_related("gpus").first()
    if sample is None:
        return []
    look = Look(sample, now)
    living = _living(sample.host)
    if any(alert.state == Alert.State.PENDING for alert in living.values()):
        _forget_after_gap(sample, living)
    changed = []
    for rule in AlertRule.objects.filter(is_enabled=True):
        for reading in read(rule.metric, look):
            alert = living.pop((rule.pk, reading.subject), None)
            changed.append(_step(rule, reading, alert, look))
    changed += [_close_orphan(alert, now) for alert in living.values()]
    return [alert for alert in changed if alert is not None]


def evaluate_silence(now: datetime) -> list[Alert]:
    """What a sampler cannot notice itself: that it is silent. Asked by the clock."""
    newest = HostSample.objects.values_list("host").annotate(Max("timestamp")).order_by()
    changed = []
    for host, timestamp in newest:
        seconds = (now - timestamp).total_seconds()
        reading = Reading(subject="", label=host, value=seconds)
        look = Look(HostSample(host=host), now)
        living = _living(host)
        rules = AlertRule.objects.filter(metric=AlertRule.Metric.SILENCE, is_enabled=True)
        changed += [_step(rule, reading, living.get((rule.pk, "")), look) for rule in rules]
    return [alert for alert in changed if alert is not None]


def prune_alerts(now: datetime) -> int:
    return delete_in_batches(Alert.objects.filter(closed_at__lt=now - CLOSED_KEPT))


def _living(host: str) -> Living:
    rows = Alert.objects.living().filter(host=host).select_related("rule", "hold")
    return {(row.rule_id, row.subject): row for row in rows}


def _forget_after_gap(sample: HostSample, living: Living) -> None:
    before = HostSample.objects.filter(host=sample.host, pk__lt=sample.pk).order_by("-id").first()
    if before is not None and sample.timestamp - before.timestamp <= GAP:
        return
    for key, alert in list(living.items()):
        if alert.state == Alert.State.PENDING:
            living.pop(key).delete()


# --- One rule and one device ------------------------------------------------------------------


def _step(rule: AlertRule, reading: Reading, alert: Alert | None, look: Look) -> Alert | None:
    """The alert, if this sample opened or closed it."""
    if alert is not None and alert.state == Alert.State.OPEN:
        is_over = reading.value is not None and rule.is_over(reading.value)
        return _close(alert, look.now) if is_over else None
    if reading.value is None or not rule.is_reached(reading.value):
        if alert is not None:
            alert.delete()
        return None
    if alert is None:
        alert = _begin(rule, reading.subject, reading.value, look)
    if look.now - alert.since < timedelta(seconds=rule.for_seconds):
        return None
    return _open(alert, rule, reading, look)


def _begin(rule: AlertRule, subject: str, value: float, look: Look) -> Alert:
    return Alert.objects.create(
        rule=rule,
        name=rule.name,
        severity=rule.severity,
        host=look.sample.host,
        subject=subject,
        value=value,
        since=look.now,
    )


@transaction.atomic
def _open(alert: Alert, rule: AlertRule, reading: Reading, look: Look) -> Alert:
    assert reading.value is not None  # None opens nothing
    alert.state, alert.opened_at, alert.updated_at = Alert.State.OPEN, look.now, look.now
    alert.name, alert.severity, alert.value = rule.name, rule.severity, reading.value
    alert.message = describe(rule, reading, look)
    if not rule.is_muted(look.now):
        _act(alert, rule, look)
        notify(rule, alert, "opened")
    alert.save()
    return alert


@transaction.atomic
def _close(alert: Alert, now: datetime) -> Alert:
    alert.state, alert.closed_at, alert.updated_at = Alert.State.CLOSED, now, now
    if alert.hold is not None:
        lift_hold(alert.hold)
        alert.hold = None
    alert.save()
    if alert.rule is not None and not alert.rule.is_muted(now):
        notify(alert.rule, alert, "closed")
    return alert


def _close_orphan(alert: Alert, now: datetime) -> Alert | None:
    """Its rule is gone or off, or its device is. A GPU that vanished is not well again."""
    if alert.state == Alert.State.PENDING:
        alert.delete()
        return None
    if alert.rule is None or not alert.rule.is_enabled:
        return _close(alert, now)
    return None


# --- What a rule does beside telling ------------------------------------------------------------


def _act(alert: Alert, rule: AlertRule, look: Look) -> None:
    if rule.action == AlertRule.Action.PAUSE_QUEUE:
        alert.hold = hold_queue("train", reason=alert.message[:500], by=f"alert: {rule.name}")
    elif rule.action == AlertRule.Action.STOP_SESSION:
        for session in _concerned(alert, look):
            _pause(session, rule)


def _concerned(alert: Alert, look: Look) -> list[TrainingSession]:
    """Those on the GPU; for a matter of the whole host, all that run on it."""
    gpu = next((gpu for gpu in look.gpus if gpu.uuid == alert.subject), None)
    return look.running if gpu is None else look.sessions_on(gpu)


def _pause(session: TrainingSession, rule: AlertRule) -> None:
    try:
        pause_job(session.job)
    except WrongState:  # it has just ended, or somebody asked for it already
        return
    audit.record(None, "session.pause", session.pk, after={"alert": rule.name})
    sentence = f"Paused after a checkpoint by the alert “{rule.name}”; resume it when that is over."
    log(session.pk, sentence, LogLine.Level.WARNING)


# --- What a person may do ---------------------------------------------------------------------


def acknowledge(alert: Alert, by: str) -> Alert:
    """Somebody looks after it: it calls no more. The first one stays named."""
    now = timezone.now()
    if Alert.objects.filter(pk=alert.pk, acknowledged_at=None).update(
        acknowledged_by=by, acknowledged_at=now, updated_at=now
    ):
        audit.record(audit.caller(), "alert.acknowledge", alert.pk, before={"name": alert.name})
    alert.refresh_from_db()
    return alert


def mute(rule: AlertRule, until: datetime | None) -> AlertRule:
    """No message, no action, no count until then; None: from now on again."""
    facts = {"before": {"muted_until": rule.muted_until}, "after": {"muted_until": until}}
    audit.record(audit.caller(), "alert_rule.mute", rule.pk, **facts)
    rule.muted_until = until
    rule.save(update_fields=["muted_until"])
    rule.alerts.open().update(updated_at=timezone.now())
    return rule
