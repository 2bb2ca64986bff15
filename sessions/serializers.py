"""Training sessions and what they measured, as JSON."""

from typing import Any

from rest_framework import serializers

from jobs.serializers import HoldSerializer
from ml.config import DEFAULT_RECIPE, describe
from sessions.models import Artifact, EpochMetric, TrainingSession

NAME_HELP = "names the session and the model that it yields"


class SessionSerializer(serializers.ModelSerializer[TrainingSession]):
    id = serializers.CharField(source="job_id")
    state = serializers.CharField(source="job.state")
    wanted = serializers.CharField(source="job.wanted", help_text="run, pause or cancel")
    phase = serializers.CharField(source="job.phase")
    priority = serializers.IntegerField(source="job.priority")
    progress = serializers.FloatField(source="job.progress", help_text="0 to 100")
    dataset = serializers.CharField(source="dataset_version", help_text="name@version")
    owner = serializers.CharField(source="job.owner.username", default=None)
    created_at = serializers.DateTimeField(source="job.created_at")
    started_at = serializers.DateTimeField(source="job.started_at")
    finished_at = serializers.DateTimeField(source="job.finished_at")
    error = serializers.CharField(source="job.error")
    error_code = serializers.CharField(source="job.error_code")
    attempt = serializers.IntegerField(source="job.attempt")
    cloned_from = serializers.CharField(source="cloned_from_id", help_text="session it began as")
    produced = serializers.SerializerMethodField(help_text="the model version it yielded")

    class Meta:
        model = TrainingSession
        fields = [
            "id",
            "name",
            "state",
            "wanted",
            "phase",
            "priority",
            "progress",
            "recipe",
            "dataset",
            "config",
            "current_epoch",
            "total_epochs",
            "current_step",
            "total_steps",
            "owner",
            "created_at",
            "started_at",
            "finished_at",
            "error",
            "error_code",
            "attempt",
            "cloned_from",
            "produced",
            "summary",
        ]
        read_only_fields = fields

    def get_produced(self, session: TrainingSession) -> str | None:
        return str(session.produced) if session.produced else None


class StartFields(serializers.Serializer[Any]):
    """What surrounds the training configuration in a request to start."""

    name = serializers.CharField(
        max_length=100, required=False, allow_blank=True, help_text=NAME_HELP
    )
    priority = serializers.IntegerField(min_value=-1000, max_value=1000, required=False)


class SessionPatchSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=100, required=False, allow_blank=True)
    priority = serializers.IntegerField(min_value=-1000, max_value=1000, required=False)


class QueueSerializer(serializers.Serializer[Any]):
    results = SessionSerializer(many=True)
    total = serializers.IntegerField()
    held = HoldSerializer(many=True, help_text="while there is one, nothing starts")


class EpochMetricSerializer(serializers.ModelSerializer[EpochMetric]):
    class Meta:
        model = EpochMetric
        fields = ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "extra", "timestamp"]


class ArtifactSerializer(serializers.ModelSerializer[Artifact]):
    class Meta:
        model = Artifact
        fields = ["name", "type", "size_bytes", "sha256"]


class CheckpointSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    step = serializers.IntegerField()
    size_bytes = serializers.IntegerField()
    is_best = serializers.BooleanField()


class SeriesQuerySerializer(serializers.Serializer[Any]):
    keys = serializers.CharField(required=False, help_text="comma-separated; without it: all")
    after = serializers.IntegerField(min_value=0, max_value=2**62, default=0)
    max_points = serializers.IntegerField(min_value=2, max_value=20_000, default=1000)


class SeriesSerializer(serializers.Serializer[Any]):
    """`values` are means where the series was reduced; then `min` and `max` are there."""

    steps = serializers.ListField(child=serializers.IntegerField())
    times = serializers.ListField(child=serializers.FloatField(), help_text="Unix seconds")
    values = serializers.ListField(child=serializers.FloatField(allow_null=True))
    min = serializers.ListField(child=serializers.FloatField(allow_null=True), allow_null=True)
    max = serializers.ListField(child=serializers.FloatField(allow_null=True), allow_null=True)


class SeriesAnswerSerializer(serializers.Serializer[Any]):
    series = serializers.DictField(child=SeriesSerializer())


class FindingSerializer(serializers.Serializer[Any]):
    code = serializers.CharField(help_text="stable word")
    level = serializers.CharField(help_text="warning (costs the result) or note (costs time)")
    sentence = serializers.CharField(help_text="what, with the numbers, and what to do")
    evidence = serializers.DictField(help_text="the numbers that led to it")


class NotFiniteSerializer(serializers.Serializer[Any]):
    series = serializers.CharField()
    step = serializers.IntegerField()


class BasisSerializer(serializers.Serializer[Any]):
    epochs = serializers.IntegerField()
    steps = serializers.IntegerField()
    gpu_readings = serializers.IntegerField()


class DiagnosisSerializer(serializers.Serializer[Any]):
    findings = FindingSerializer(many=True, help_text="warnings first; empty: nothing stands out")
    step_seconds = serializers.DictField(
        child=serializers.FloatField(), allow_null=True, help_text="mean of each part of a step"
    )
    not_finite = NotFiniteSerializer(allow_null=True, help_text="the first NaN or infinity")
    basis = BasisSerializer(help_text="how much was looked at")


class HardwareSerializer(serializers.Serializer[Any]):
    bucket_seconds = serializers.FloatField(allow_null=True)
    timestamps = serializers.ListField(child=serializers.FloatField(), help_text="Unix seconds")
    series = serializers.DictField(
        child=serializers.ListField(child=serializers.FloatField(allow_null=True))
    )
    reason = serializers.CharField(allow_null=True, help_text="why there is none")


JSON_TYPES: dict[str, dict[str, Any]] = {
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "choice": {"type": "string"},
    "text": {"type": "string"},
    "dataset": {"type": "string"},
    "base_model": {"type": "string"},
    "boolean": {"type": "boolean"},
    "names": {"type": "array", "items": {"type": "string"}},
    "integers": {"type": "array", "items": {"type": "integer"}},
}


def start_schema() -> dict[str, Any]:
    """The body of POST sessions/, described from ml.config, where the rules are."""
    recipes = describe().items()
    return {"anyOf": [_recipe_schema(name, recipe) for name, recipe in recipes]}


def clone_schema() -> dict[str, Any]:
    """The body of POST sessions/{id}/clone: any of the fields, none required."""
    recipes = start_schema()["anyOf"]
    names = [{key: value for key, value in each.items() if key != "required"} for each in recipes]
    return {"anyOf": names}


def _recipe_schema(name: str, recipe: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "name": {"type": "string", "maxLength": 100, "description": NAME_HELP},
        "priority": {"type": "integer", "default": 0, "description": "higher goes first"},
    }
    required = [] if name == DEFAULT_RECIPE else ["recipe"]
    for field in recipe["fields"]:
        if field["name"] == "session":
            continue
        properties[field["name"]] = _describe_property(field)
        if field["required"]:
            required.append(field["name"])
    return {
        "title": f"recipe {name}",
        "description": recipe["help"],
        "type": "object",
        "properties": properties,
        "required": required,
    }


def _describe_property(field: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {**JSON_TYPES[field["kind"]], "description": field["help"]}
    if "choices" in field:
        described["enum"] = field["choices"]
    if field["kind"] in ("integer", "number"):
        low = "exclusiveMinimum" if field["exclusive_minimum"] else "minimum"
        described |= {low: field["minimum"], "maximum": field["maximum"]}
    if field["nullable"]:
        described["type"] = [described["type"], "null"]
    if not field["required"]:
        described["default"] = field["default"]
    return described
