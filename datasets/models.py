"""A dataset is a name; what one learns from is one of its versions."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.db import models
from django.utils import timezone


class Dataset(models.Model):
    name = models.CharField(max_length=100, unique=True)
    description = models.TextField(blank=True, default="")
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="datasets",
    )
    is_builtin = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def latest(self) -> DatasetVersion | None:
        return self.versions.order_by("-number").first()


class DatasetVersion(models.Model):
    """Immutable: the file, and what was read from it once."""

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    format = models.CharField(max_length=16)
    kind = models.CharField(max_length=16, help_text="table, image, array, text")
    sample_count = models.BigIntegerField()
    dimensions = models.JSONField(default=list)
    size_bytes = models.BigIntegerField()
    schema = models.JSONField(default=dict, help_text="columns with types, target, classes")
    splits = models.JSONField(default=dict)
    statistics = models.JSONField(default=dict)
    sha256 = models.CharField(max_length=64)
    file_path = models.CharField(max_length=500, help_text="folder, under DATASETS_DIR")
    original_filename = models.CharField(max_length=255, blank=True, default="")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["dataset", "-number"]
        constraints = [
            models.UniqueConstraint(fields=["dataset", "number"], name="dataset_version_once")
        ]

    def __str__(self) -> str:
        return f"{self.dataset.name}@{self.number}"

    @property
    def folder(self) -> Path:
        return settings.DATASETS_DIR / self.file_path
