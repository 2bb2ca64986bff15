"""The answer of POST sessions/preflight as JSON; what is not known is null with a reason."""

from typing import Any

from rest_framework import serializers

from sessions.serializers import start_schema

REASON = "why something is null"


class DryRunField(serializers.Serializer[Any]):
    dry_run = serializers.BooleanField(
        default=False, help_text="really train a few steps, and measure them"
    )


def _null(kind: type[serializers.Field[Any, Any, Any, Any]], help: str = "") -> Any:
    return kind(allow_null=True, help_text=help)


class SeenDatasetSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="name@version")
    kind = serializers.CharField()
    samples = serializers.IntegerField()
    description = serializers.ListField(
        child=serializers.CharField(), allow_null=True, help_text="what is learned from what"
    )


class DeviceSerializer(serializers.Serializer[Any]):
    kind = serializers.CharField(help_text="cpu or cuda")
    name = serializers.CharField()
    free_bytes = _null(serializers.IntegerField)
    total_bytes = _null(serializers.IntegerField)
    is_missing = serializers.BooleanField(help_text="it was asked for by name and is not there")
    reason = _null(serializers.CharField, REASON)


class StepsSerializer(serializers.Serializer[Any]):
    training_samples = serializers.IntegerField()
    validation_samples = serializers.IntegerField()
    steps_per_epoch = serializers.IntegerField()
    steps = serializers.IntegerField()


class SeenSamplesSerializer(serializers.Serializer[Any]):
    columns = serializers.ListField(child=serializers.CharField())
    types = serializers.ListField(child=serializers.CharField())
    rows = serializers.ListField(child=serializers.ListField())
    columns_total = serializers.IntegerField()


class NeededMemorySerializer(serializers.Serializer[Any]):
    needed_bytes = _null(serializers.IntegerField, "at the largest moment of a step")
    parts = _null(serializers.DictField, "weights, gradients, optimizer, activations, process")
    free_bytes = _null(serializers.IntegerField)
    total_bytes = _null(serializers.IntegerField)
    fits = _null(serializers.BooleanField)
    reason = _null(serializers.CharField, REASON)


class NeededDiskSerializer(serializers.Serializer[Any]):
    needed_bytes = _null(serializers.IntegerField, "checkpoints, model, prepared data")
    free_bytes = serializers.IntegerField()
    fits = _null(serializers.BooleanField)
    reason = _null(serializers.CharField, REASON)
    checkpoint_bytes = serializers.IntegerField(required=False)
    kept = serializers.IntegerField(required=False, help_text="checkpoints there at once")
    model_bytes = serializers.IntegerField(required=False)
    prepared_bytes = serializers.IntegerField(
        required=False, help_text="about what the data takes as tokens or as a table"
    )


class TimeSerializer(serializers.Serializer[Any]):
    seconds = _null(serializers.FloatField, "from the start of its process to its end")
    low_seconds = _null(serializers.FloatField)
    high_seconds = _null(serializers.FloatField)
    sessions = serializers.IntegerField(help_text="completed here that this follows from")
    alike = serializers.BooleanField(help_text="those had the same data and such a model")
    reason = _null(serializers.CharField, REASON)


class PlaceSerializer(serializers.Serializer[Any]):
    place = serializers.IntegerField(help_text="in the queue, from 1")
    running = serializers.IntegerField()
    free_seats = serializers.IntegerField()
    held = serializers.ListField(child=serializers.CharField(), help_text="why nothing starts")
    starts_at_once = serializers.BooleanField()


class DryRunErrorSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()


class DryRunSerializer(serializers.Serializer[Any]):
    steps = serializers.IntegerField(help_text="that were done")
    seconds_per_step = _null(serializers.FloatField, "mean without the first")
    start_seconds = _null(serializers.FloatField, "until the first step was told")
    peak_memory_bytes = _null(serializers.IntegerField, "of the process, in the machine's memory")
    peak_gpu_memory_bytes = _null(serializers.IntegerField, "as the driver saw it; null: no GPU")
    projected_seconds = _null(serializers.FloatField, "all steps, without validation")
    error = DryRunErrorSerializer(allow_null=True, help_text="why no step was done")


class PreflightSerializer(serializers.Serializer[Any]):
    fits = serializers.BooleanField(help_text="false: memory or disk would not be enough")
    warnings = serializers.ListField(child=serializers.CharField())
    config = serializers.DictField(help_text="complete, with every default")
    dataset = SeenDatasetSerializer()
    device = DeviceSerializer()
    steps = StepsSerializer(
        allow_null=True, help_text="null: texts are packed, and a look at the data will tell"
    )
    samples = SeenSamplesSerializer(allow_null=True, help_text="as the model will see them")
    memory = NeededMemorySerializer()
    disk = NeededDiskSerializer()
    time = TimeSerializer()
    queue = PlaceSerializer()
    dry_run = DryRunSerializer(required=False)


def preflight_schema() -> dict[str, Any]:
    """The body of POST sessions/, and `dry_run`."""
    described = {"type": "boolean", "default": False, "description": "train a few steps"}
    return {"allOf": [start_schema(), {"type": "object", "properties": {"dry_run": described}}]}
