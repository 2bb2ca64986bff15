"""Jobs and their log lines as JSON."""

from typing import Any

from rest_framework import serializers

from jobs.models import Job, LogLine, QueueHold, State

# The doors of the older documents know no "queued"; one vocabulary inside, theirs outside.
JOB_STATUS = {State.QUEUED: "pending", State.PAUSED: "running"}


class JobSerializer(serializers.ModelSerializer[Job]):
    job_id = serializers.CharField(source="id")
    status = serializers.SerializerMethodField()
    phase = serializers.SerializerMethodField()
    owner = serializers.CharField(source="owner.username", default=None)
    error = serializers.CharField(help_text="a sentence, empty while all is well")

    class Meta:
        model = Job
        fields = [
            "job_id",
            "kind",
            "status",
            "state",
            "phase",
            "priority",
            "progress",
            "owner",
            "result",
            "error",
            "error_code",
            "attempt",
            "created_at",
            "updated_at",
            "started_at",
            "finished_at",
        ]
        read_only_fields = fields

    def get_status(self, job: Job) -> str:
        return JOB_STATUS.get(State(job.state), job.state)

    def get_phase(self, job: Job) -> str:
        return "paused" if job.state == State.PAUSED else job.phase


class LogLineSerializer(serializers.ModelSerializer[LogLine]):
    class Meta:
        model = LogLine
        fields = ["id", "timestamp", "level", "message"]


class LogPageSerializer(serializers.Serializer[Any]):
    """`next_after` is where to go on reading."""

    results = LogLineSerializer(many=True)
    next_after = serializers.IntegerField()


class LogQuerySerializer(serializers.Serializer[Any]):
    after = serializers.IntegerField(min_value=0, max_value=2**62, default=0)
    limit = serializers.IntegerField(min_value=1, max_value=10_000, default=1000)
    level = serializers.ChoiceField(
        choices=LogLine.Level.choices, required=False, help_text="this level and what is worse"
    )


class HoldSerializer(serializers.ModelSerializer[QueueHold]):
    class Meta:
        model = QueueHold
        fields = ["id", "reason", "by", "created_at"]
        read_only_fields = ["id", "by", "created_at"]
