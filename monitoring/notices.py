"""Webhooks of alerts: an outbox, delivered by tasks and never by the sampler."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone
from django_q.tasks import async_task

from mlserver.lib.batches import delete_in_batches
from mlserver.lib.errors import AppError
from mlserver.lib.webhooks import post_message, seconds_until_next
from monitoring.models import Alert, AlertDelivery, AlertRule

SENDING = timedelta(minutes=2)
"""Whoever took a message has so long; then it is taken again."""

KEPT = timedelta(days=30)


def notify(rule: AlertRule, alert: Alert, event: str) -> None:
    if rule.target == AlertRule.Target.WEBHOOK:
        put_out(rule, {"event": f"alert.{event}", **describe_alert(alert)})


def put_out(rule: AlertRule, payload: dict[str, Any]) -> AlertDelivery:
    """Into the outbox; a worker takes it as soon as the transaction commits."""
    delivery = AlertDelivery.objects.create(
        message_id=f"msg_{secrets.token_hex(12)}",
        rule=rule,
        url=rule.webhook_url,
        payload={**payload, "timestamp": timezone.now().isoformat()},
    )
    transaction.on_commit(
        lambda: async_task("monitoring.tasks.deliver_alert", delivery.pk, save=False)
    )
    return delivery


def deliver(delivery_id: int) -> AlertDelivery | None:
    """One try. None when somebody else is at it, or it is done."""
    now = timezone.now()
    due = AlertDelivery.objects.filter(
        pk=delivery_id, status=AlertDelivery.Status.PENDING, next_at__lte=now
    )
    if not due.update(next_at=now + SENDING):
        return None
    delivery = AlertDelivery.objects.get(pk=delivery_id)
    delivery.attempts += 1
    try:
        post_message(
            delivery.url,
            message_id=delivery.message_id,
            timestamp=int(now.timestamp()),
            payload=delivery.payload,
        )
    except AppError as error:
        _note_failure(delivery, error.detail, now)
    else:
        delivery.status, delivery.error = AlertDelivery.Status.DELIVERED, ""
    delivery.save()
    return delivery


def list_due(now: datetime) -> list[int]:
    due = AlertDelivery.objects.filter(status=AlertDelivery.Status.PENDING, next_at__lte=now)
    return list(due.order_by("next_at").values_list("pk", flat=True)[:100])


def prune_deliveries(now: datetime) -> int:
    return delete_in_batches(AlertDelivery.objects.filter(created_at__lt=now - KEPT))


def describe_alert(alert: Alert) -> dict[str, Any]:
    """What the webhook and the event `alert` carry."""
    return {
        "id": alert.pk,
        "name": alert.name,
        "severity": alert.severity,
        "state": alert.state,
        "host": alert.host,
        "subject": alert.subject,
        "value": alert.value,
        "message": alert.message,
        "opened_at": alert.opened_at.isoformat() if alert.opened_at else None,
        "closed_at": alert.closed_at.isoformat() if alert.closed_at else None,
    }


def _note_failure(delivery: AlertDelivery, sentence: str, now: datetime) -> None:
    delivery.error = sentence
    seconds = seconds_until_next(delivery.attempts)
    if seconds is None:
        delivery.status = AlertDelivery.Status.FAILED
    else:
        delivery.next_at = now + timedelta(seconds=seconds)
