"""Keys, the record of who tried to come in and of who changed what, and how fast each may ask."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone


class Role(models.TextChoices):
    """In rising order: read everything; change one's own; change everything."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def usable(self, now: datetime | None = None) -> ApiKeyQuerySet:
        alive = Q(expires_at=None) | Q(expires_at__gt=now or timezone.now())
        return self.filter(alive, revoked_at=None, user__is_active=True)


class ApiKey(models.Model):
    """A key `mls_<prefix>_<secret>`; only the hash of the whole is stored.

    One from the setting API_KEYS may look otherwise; its prefix is the start of its hash.
    """

    name = models.CharField(max_length=100)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_keys"
    )
    prefix = models.CharField(max_length=12, unique=True)
    hash = models.CharField(max_length=64, db_index=True)
    previous_hash = models.CharField(max_length=64, blank=True, default="")
    previous_until = models.DateTimeField(null=True, blank=True)
    """After a rotation with overlap the old secret opens until then."""

    role = models.CharField(max_length=16, choices=Role, default=Role.OPERATOR)
    scopes = models.JSONField(default=list, blank=True)
    """Areas of the API (mlserver.api.areas); empty: everything that the role allows."""

    allowed_networks = models.JSONField(default=list, blank=True)
    """Such as `10.0.0.0/8`; empty: from everywhere."""

    rate_limit_requests = models.PositiveIntegerField(null=True, blank=True)
    rate_limit_period = models.PositiveIntegerField(null=True, blank=True)
    """Seconds; null: what the settings say."""

    is_from_environment = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    last_used_address = models.GenericIPAddressField(null=True, blank=True)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} (mls_{self.prefix}_…)"

    @property
    def is_usable(self) -> bool:
        expired = self.expires_at is not None and self.expires_at <= timezone.now()
        return self.revoked_at is None and not expired


class AuthLog(models.Model):
    """One attempt to come in, whether it succeeded or not.

    At the doors of inference those of a minute that succeed alike are one row with their count.
    """

    api_key_hash = models.CharField(max_length=64, blank=True, default="")
    prefix = models.CharField(max_length=12, blank=True, default="")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    success = models.BooleanField()
    reason = models.CharField(max_length=64, blank=True, default="")
    method = models.CharField(max_length=8, blank=True, default="")
    endpoint = models.CharField(max_length=255)
    address = models.GenericIPAddressField(null=True, blank=True)
    count = models.PositiveBigIntegerField(default=1)
    timestamp = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = "authentication attempt"

    def __str__(self) -> str:
        return f"{self.timestamp:%F %T} {self.endpoint} {'ok' if self.success else self.reason}"


class AuditEntry(models.Model):
    """One change: who, what, from what to what, how and from where. Never changed itself."""

    timestamp = models.DateTimeField(default=timezone.now, db_index=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    username = models.CharField(max_length=150, blank=True, default="")
    """Also when the user is gone; empty: the server itself."""

    action = models.CharField(max_length=64)
    object_type = models.CharField(max_length=32)
    object_id = models.CharField(max_length=255)
    before = models.JSONField(default=dict, blank=True)
    after = models.JSONField(default=dict, blank=True)
    how = models.CharField(max_length=16)
    key_prefix = models.CharField(max_length=12, blank=True, default="")
    address = models.GenericIPAddressField(null=True, blank=True)
    request_id = models.CharField(max_length=64, blank=True, default="")

    class Meta:
        ordering = ["-id"]
        verbose_name = "audit entry"
        verbose_name_plural = "audit entries"
        indexes = [models.Index(fields=["object_type", "object_id"], name="audit_object")]

    def __str__(self) -> str:
        return f"{self.timestamp:%F %T} {self.username or 'the server'} {self.action}"


class RateBucket(models.Model):
    """How far ahead of the clock somebody's requests are (GCRA): see accounts.ratelimit."""

    name = models.CharField(max_length=64, primary_key=True)
    full_at = models.BigIntegerField(db_index=True)
    """Theoretical arrival time, in microseconds since 1970."""

    def __str__(self) -> str:
        return self.name
