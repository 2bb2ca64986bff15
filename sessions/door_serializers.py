"""Trainings as document 000 says them: its fields, its four states."""

from typing import Any

from rest_framework import serializers

from jobs.models import State
from sessions.models import TrainingSession

# Its clients wait for "completed" or "failed", so a cancelled training has to end there.
STATUS = {
    State.QUEUED: "pending",
    State.RUNNING: "running",
    State.PAUSED: "running",
    State.COMPLETED: "completed",
    State.FAILED: "failed",
    State.CANCELLED: "failed",
}
STATUSES = ("pending", "running", "completed", "failed")
CANCELLED = "The training was cancelled."
STARTED = "Training job started"


class TrainingRequestSerializer(serializers.Serializer[Any]):
    """Ranges are those of a session's configuration, which checks them."""

    dataset_path = serializers.CharField(
        max_length=1000, help_text="name of a dataset, or a file in the datasets directory"
    )
    model_name = serializers.CharField(
        max_length=255,
        required=False,
        help_text="network (default), mlp or cnn; else a language model: its name on this server, "
        "or on the Hugging Face hub",
    )
    num_epochs = serializers.IntegerField(required=False)
    batch_size = serializers.IntegerField(required=False)
    learning_rate = serializers.FloatField(required=False)
    output_dir = serializers.CharField(
        max_length=1000,
        required=False,
        allow_blank=True,
        help_text="its last part names the model, like models/my_model",
    )
    task_type = serializers.CharField(
        max_length=100,
        required=False,
        help_text="auto (default): follows from the model; classification or regression of a "
        "network; text2text, causal or classify of a language model",
    )


class TrainingItemSerializer(serializers.Serializer[Any]):
    job_id = serializers.CharField()
    status = serializers.ChoiceField(choices=STATUSES)
    started_at = serializers.DateTimeField(help_text="when it was submitted")


class TrainingStartedSerializer(TrainingItemSerializer):
    message = serializers.CharField(default=STARTED)


class TrainingStatusSerializer(TrainingItemSerializer):
    phase = serializers.CharField(help_text="what it does at this moment, or `paused`")
    progress = serializers.FloatField(help_text="0 to 100")
    current_epoch = serializers.IntegerField()
    total_epochs = serializers.IntegerField()
    loss = serializers.FloatField(allow_null=True, help_text="of the newest epoch")
    completed_at = serializers.DateTimeField(allow_null=True)
    error = serializers.CharField(allow_null=True)


class TrainingJobsSerializer(serializers.Serializer[Any]):
    jobs = TrainingItemSerializer(many=True)
    total = serializers.IntegerField()


class TrainingListQuerySerializer(serializers.Serializer[Any]):
    skip = serializers.IntegerField(min_value=0, default=0)
    limit = serializers.IntegerField(min_value=1, max_value=1000, default=100)


def explain_end(session: TrainingSession) -> str | None:
    """A job that waits may carry the reason of its last interruption, which is no error."""
    job = session.job
    if job.state == State.CANCELLED:
        return job.error or CANCELLED
    return job.error or None if job.state == State.FAILED else None


def describe_start(session: TrainingSession) -> dict[str, Any]:
    job = session.job
    said = {
        "job_id": job.pk,
        "status": STATUS[State(job.state)],
        "message": STARTED,
        "started_at": job.created_at,
    }
    return dict(TrainingStartedSerializer(said).data)


def describe_status(session: TrainingSession) -> dict[str, Any]:
    job = session.job
    latest = session.summary.get("latest") or {}
    said = {
        "job_id": job.pk,
        "status": STATUS[State(job.state)],
        "phase": "paused" if job.state == State.PAUSED else job.phase,
        "progress": job.progress,
        "current_epoch": session.current_epoch,
        "total_epochs": session.total_epochs,
        "loss": latest.get("loss"),
        "started_at": job.created_at,
        "completed_at": job.finished_at if job.is_final else None,
        "error": explain_end(session),
    }
    return dict(TrainingStatusSerializer(said).data)
