"""What should be in memory. The rows are wishes and facts; the manager makes them agree."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone

from models_registry.models import ModelVersion


class State(models.TextChoices):
    WAITING = "waiting"
    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"
    FAILED = "failed"


class LoadedModelQuerySet(models.QuerySet["LoadedModel"]):
    def wanted(self) -> LoadedModelQuerySet:
        return self.filter(is_wanted=True)

    def of_model(self, name: str) -> LoadedModelQuerySet:
        """The wanted ones of a model, the newest version first."""
        rows = self.wanted().filter(version__model__name=name)
        return rows.select_related("version__model", "owner").order_by("-version__number")


class LoadedModel(models.Model):
    """One version in one worker process. `is_wanted` belongs to people, the rest to the manager.

    The row is gone when the memory is free again; what was loaded when, the audit trail knows.
    """

    version = models.OneToOneField(ModelVersion, on_delete=models.CASCADE, related_name="loaded")
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    is_wanted = models.BooleanField(default=True)
    is_pinned = models.BooleanField(default=False, help_text="never evicted for another model")
    keep_alive_seconds = models.PositiveIntegerField(
        null=True, blank=True, help_text="unloaded when unused for so long; empty: never"
    )
    device = models.CharField(max_length=32, default="auto", help_text="auto until it is chosen")
    optimization_level = models.PositiveSmallIntegerField(default=2)
    state = models.CharField(max_length=16, choices=State, default=State.WAITING)
    stage = models.CharField(max_length=16, blank=True, default="", help_text="of loading")
    error = models.TextField(blank=True, default="")
    error_code = models.CharField(max_length=32, blank=True, default="")
    stumbles = models.PositiveSmallIntegerField(default=0, help_text="deaths in a row")
    retry_at = models.DateTimeField(null=True, blank=True)
    pid = models.PositiveIntegerField(null=True, blank=True)
    socket = models.CharField(max_length=100, blank=True, default="", help_text="under SOCKETS_DIR")
    signature = models.JSONField(null=True, blank=True, help_text="{inputs, outputs}")
    memory_bytes = models.BigIntegerField(null=True, blank=True, help_text="measured, once loaded")
    load_seconds = models.FloatField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = LoadedModelQuerySet.as_manager()

    class Meta:
        ordering = ["created_at", "id"]

    def __str__(self) -> str:
        return str(self.version)
