"""What the queue calls."""

from django.utils import timezone
from django_q.tasks import async_task

from jobs.services import wake_what_waits
from monitoring import alerts, history, notices, services, use


def canary(cluster: str) -> None:
    """Prove that this cluster still takes work, and give it what was left lying."""
    services.record_heartbeat(cluster)
    wake_what_waits(cluster)


def deliver_alert(delivery_id: int) -> None:
    notices.deliver(delivery_id)


def watch_alerts() -> None:
    """Every minute: is the sampler silent, what has to be sent again, what is too old."""
    now = timezone.now()
    alerts.evaluate_silence(now)
    for delivery_id in notices.list_due(now):
        async_task("monitoring.tasks.deliver_alert", delivery_id, save=False)
    tidy()


def tidy() -> dict[str, int]:
    """Forget what is too old; how much of what that was."""
    now = timezone.now()
    return {
        "readings": history.prune(now) + use.prune_use(now),
        "alerts": alerts.prune_alerts(now),
        "alert_deliveries": notices.prune_deliveries(now),
    }
