"""A registered model is a name; what can be loaded is one of its versions."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.db import models
from django.db.models import Count, OuterRef, Prefetch, Q, Subquery
from django.utils import timezone


class RegisteredModelQuerySet(models.QuerySet["RegisteredModel"]):
    def with_latest(self) -> RegisteredModelQuerySet:
        """With task, size_bytes and updated_at of the latest version, and that version itself as
        `newest` (a list of at most one): three queries, however many models and versions."""
        newest = ModelVersion.objects.filter(model=OuterRef("pk")).order_by("-number")
        counted = self.select_related("owner").annotate(
            version_count=Count("versions"),
            task=Subquery(newest.values("task")[:1]),
            size_bytes=Subquery(newest.values("size_bytes")[:1]),
            updated_at=Subquery(newest.values("created_at")[:1]),
        )
        # Counting groups the rows, and Django forgets Meta.ordering then.
        return counted.order_by("name").prefetch_related(
            Prefetch("versions", ModelVersion.objects.order_by("-number")[:1], to_attr="newest"),
            Prefetch("aliases", ModelAlias.objects.select_related("version")),
        )


class RegisteredModel(models.Model):
    name = models.CharField(max_length=100, unique=True)
    description = models.TextField(blank=True, default="")
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="registered_models",
    )
    created_at = models.DateTimeField(default=timezone.now)
    # Counts up only: `digits@3` never means something else after version 3 was deleted.
    last_number = models.PositiveIntegerField(default=0, editable=False)

    objects = RegisteredModelQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        verbose_name = "model"

    def __str__(self) -> str:
        return self.name

    @property
    def latest(self) -> ModelVersion | None:
        return self.versions.order_by("-number").first()


class ModelVersion(models.Model):
    """Immutable files with facts about them; aliases and card may change."""

    model = models.ForeignKey(RegisteredModel, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    framework = models.CharField(max_length=32)
    task = models.CharField(max_length=32)
    files = models.JSONField(default=list, help_text="[{path, size_bytes, sha256}]")
    size_bytes = models.BigIntegerField()
    signature = models.JSONField(null=True, blank=True, help_text="{inputs, outputs}")
    metrics = models.JSONField(default=dict)
    lineage = models.JSONField(default=dict, help_text="facts: session, dataset version, code")
    # The session that made it, as a fact, so that registering twice finds the first.
    source_session = models.CharField(max_length=64, blank=True, default="")
    card = models.TextField(blank=True, default="")
    file_path = models.CharField(max_length=500, help_text="folder, under MODELS_DIR")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["model", "-number"]
        constraints = [
            models.UniqueConstraint(fields=["model", "number"], name="model_version_once"),
            models.UniqueConstraint(
                fields=["source_session"],
                condition=~Q(source_session=""),
                name="one_version_per_session",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model.name}@{self.number}"

    @property
    def folder(self) -> Path:
        return settings.MODELS_DIR / self.file_path


class ModelAlias(models.Model):
    """A movable name for one version of a model: `champion`, `production`."""

    model = models.ForeignKey(RegisteredModel, on_delete=models.CASCADE, related_name="aliases")
    version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="aliases")
    name = models.CharField(max_length=64)

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "model aliases"
        constraints = [
            models.UniqueConstraint(fields=["model", "name"], name="alias_once_per_model")
        ]

    def __str__(self) -> str:
        return f"{self.model.name}@{self.name}"
