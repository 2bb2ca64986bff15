"""The act of learning, and what it said while it lasted. Its life cycle is that of its Job."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.db import connection, models
from django.utils import timezone

from datasets.models import DatasetVersion
from jobs.models import Job
from models_registry.models import ModelVersion


class Experiment(models.Model):
    """A named group of sessions."""

    name = models.CharField(max_length=100, unique=True)
    description = models.TextField(blank=True, default="")
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class TrainingSession(models.Model):
    job = models.OneToOneField(
        Job, primary_key=True, on_delete=models.CASCADE, related_name="training_session"
    )
    name = models.CharField(max_length=100, blank=True, default="")
    recipe = models.CharField(max_length=32)
    config = models.JSONField(default=dict, help_text="complete and validated")
    dataset_version = models.ForeignKey(
        DatasetVersion, null=True, on_delete=models.PROTECT, related_name="training_sessions"
    )
    base_model = models.CharField(max_length=255, blank=True, default="")
    experiment = models.ForeignKey(
        Experiment,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="training_sessions",
    )
    cloned_from = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="clones"
    )
    current_epoch = models.PositiveIntegerField(default=0)
    total_epochs = models.PositiveIntegerField()
    current_step = models.PositiveBigIntegerField(default=0)
    total_steps = models.PositiveBigIntegerField(null=True, blank=True)
    produced = models.OneToOneField(
        ModelVersion,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="training_session",
    )
    summary = models.JSONField(default=dict, help_text="latest and best metrics, environment")
    energy_joules = models.FloatField(
        null=True, blank=True, help_text="its share of what its GPUs used; counted by the sampler"
    )
    energy_reason = models.CharField(
        max_length=200, blank=True, default="", help_text="why there is no energy"
    )

    class Meta:
        ordering = ["-job__created_at"]
        verbose_name = "training session"

    def __str__(self) -> str:
        return self.title

    @property
    def title(self) -> str:
        return self.name or self.job_id

    @property
    def run_path(self) -> Path:
        return settings.RUNS_DIR / self.job_id


class EpochMetric(models.Model):
    session = models.ForeignKey(
        TrainingSession, on_delete=models.CASCADE, related_name="epoch_metrics"
    )
    epoch = models.PositiveIntegerField()
    loss = models.FloatField(null=True)
    accuracy = models.FloatField(null=True)
    val_loss = models.FloatField(null=True)
    val_accuracy = models.FloatField(null=True)
    extra = models.JSONField(default=dict)
    timestamp = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["session", "epoch"]
        constraints = [
            models.UniqueConstraint(fields=["session", "epoch"], name="one_metric_per_epoch")
        ]

    def __str__(self) -> str:
        return f"{self.session_id} epoch {self.epoch}"


class MetricPointQuerySet(models.QuerySet["MetricPoint"]):
    def upsert(self, rows: Iterable[tuple[str, str, int, float | None, datetime]]) -> None:
        """Write (session id, key, step, value, timestamp) rows; the newer value stands.

        By hand, because bulk_create builds one object and one placeholder a value: this
        is the hottest write of the server.
        """
        timestamp = connection.ops.adapt_datetimefield_value
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO training_sessions_metricpoint"
                " (session_id, key, step, value, timestamp) VALUES (%s, %s, %s, %s, %s)"
                " ON CONFLICT (session_id, key, step)"
                " DO UPDATE SET value = excluded.value, timestamp = excluded.timestamp",
                [(*row[:-1], timestamp(row[-1])) for row in rows],
            )


class MetricPoint(models.Model):
    """One value of a dense series. A resumed attempt overwrites the steps that it repeats."""

    # The unique constraint begins with the session; a second index would only cost.
    session = models.ForeignKey(
        TrainingSession, on_delete=models.CASCADE, related_name="metric_points", db_index=False
    )
    key = models.CharField(max_length=64)
    step = models.PositiveBigIntegerField()
    value = models.FloatField(null=True)
    timestamp = models.DateTimeField(default=timezone.now)

    objects = MetricPointQuerySet.as_manager()

    class Meta:
        ordering = ["session", "key", "step"]
        constraints = [
            models.UniqueConstraint(fields=["session", "key", "step"], name="one_point_per_step")
        ]

    def __str__(self) -> str:
        return f"{self.session_id} {self.key} {self.step}"


class Artifact(models.Model):
    """A file that a session left, beside its model."""

    session = models.ForeignKey(TrainingSession, on_delete=models.CASCADE, related_name="artifacts")
    name = models.CharField(max_length=255)
    path = models.CharField(max_length=500, help_text="relative to the run directory")
    size_bytes = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    type = models.CharField(max_length=32)

    class Meta:
        ordering = ["session", "name"]
        constraints = [
            models.UniqueConstraint(fields=["session", "name"], name="one_artifact_per_name")
        ]

    def __str__(self) -> str:
        return f"{self.session_id} {self.name}"
