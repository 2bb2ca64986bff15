"""Training sessions in Django's admin: facts to read; what runs is paused, resumed, cancelled."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from mlserver.lib.facts import FactsAdmin, person
from sessions.models import Artifact, EpochMetric, Experiment, MetricPoint, TrainingSession
from sessions.services import cancel_session, pause_session, resume_session


@admin.register(TrainingSession)
class TrainingSessionAdmin(FactsAdmin):
    list_display = [
        "job_id",
        "name",
        "state",
        "recipe",
        "epochs",
        "owner",
        "dataset_version",
        "produced",
    ]
    list_filter = ["job__state", "recipe", "job__error_code"]
    list_select_related = ["job__owner", "dataset_version__dataset", "produced__model"]
    search_fields = ["job__id", "name", "job__owner__username", "dataset_version__dataset__name"]
    date_hierarchy = "job__created_at"
    actions = ["pause", "resume", "cancel"]

    @admin.display(ordering="job__state")
    def state(self, session: TrainingSession) -> str:
        return session.job.state

    @admin.display(ordering="current_epoch")
    def epochs(self, session: TrainingSession) -> str:
        return f"{session.current_epoch} of {session.total_epochs}"

    @admin.display(ordering="job__owner__username")
    def owner(self, session: TrainingSession) -> str:
        return session.job.owner.username if session.job.owner else "–"

    @admin.action(description="Pause after a checkpoint", permissions=["view"])
    def pause(self, request: HttpRequest, rows: QuerySet[TrainingSession]) -> None:
        self.do_each(request, rows, lambda row: pause_session(row, person(request)), "Pausing")

    @admin.action(description="Resume", permissions=["view"])
    def resume(self, request: HttpRequest, rows: QuerySet[TrainingSession]) -> None:
        self.do_each(request, rows, lambda row: resume_session(row, person(request)), "Resumed")

    @admin.action(description="Cancel", permissions=["view"])
    def cancel(self, request: HttpRequest, rows: QuerySet[TrainingSession]) -> None:
        self.do_each(request, rows, lambda row: cancel_session(row, person(request)), "Cancelled")


@admin.register(Experiment)
class ExperimentAdmin(FactsAdmin):
    list_display = ["name", "owner", "created_at"]
    list_select_related = ["owner"]
    search_fields = ["name", "description"]


@admin.register(EpochMetric)
class EpochMetricAdmin(FactsAdmin):
    list_display = ["session_id", "epoch", "loss", "accuracy", "val_loss", "val_accuracy"]
    search_fields = ["session__job__id"]


@admin.register(MetricPoint)
class MetricPointAdmin(FactsAdmin):
    list_display = ["session_id", "key", "step", "value"]
    search_fields = ["session__job__id", "key"]


@admin.register(Artifact)
class ArtifactAdmin(FactsAdmin):
    list_display = ["session_id", "name", "type", "size_bytes", "sha256"]
    list_filter = ["type"]
    search_fields = ["session__job__id", "name"]
