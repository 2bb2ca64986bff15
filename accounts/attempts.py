"""How long the log of attempts to come in is kept."""

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from accounts.models import AuthLog
from mlserver.lib.batches import delete_in_batches


def forget_old_attempts() -> int:
    """AUTH_LOG_DAYS; 0 keeps all. Every request with a key leaves a row."""
    if not settings.AUTH_LOG_DAYS:
        return 0
    oldest = timezone.now() - timedelta(days=settings.AUTH_LOG_DAYS)
    return delete_in_batches(AuthLog.objects.filter(timestamp__lt=oldest))
