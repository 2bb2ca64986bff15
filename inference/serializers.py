"""Models in memory and predictions as JSON."""

from typing import Any

from rest_framework import serializers

from inference.models import LoadedModel, State
from models_registry.serializers import ChangeSerializer, as_megabytes

LONGEST_WAIT_SECONDS = 60
LONGEST_TIMEOUT_SECONDS = 300
MOST_BATCH_SIZE = 128


class LoadSerializer(ChangeSerializer):
    model_name = serializers.CharField(
        max_length=200,
        required=False,
        help_text="`digits`, `digits@3` or `digits@champion`; with `path` its name in the registry",
    )
    path = serializers.CharField(
        max_length=1000,
        required=False,
        help_text="a file or folder in the models directory, or in one of MODEL_IMPORT_DIRS: it is"
        " looked through, copied into the registry, and loaded",
    )
    device = serializers.ChoiceField(
        ["auto", "cpu", "cuda"], default="auto", help_text="auto: a GPU where there is one"
    )
    optimization_level = serializers.IntegerField(
        min_value=0, max_value=2, default=2, help_text="of ONNX graphs: 0 none, 2 everything"
    )
    pinned = serializers.BooleanField(
        default=False, source="is_pinned", help_text="never evicted for another model"
    )
    keep_alive_seconds = serializers.IntegerField(
        min_value=1,
        max_value=2**31 - 1,
        default=None,
        allow_null=True,
        help_text="unloaded when unused for so long; null: never",
    )
    wait_seconds = serializers.FloatField(
        min_value=0,
        max_value=LONGEST_WAIT_SECONDS,
        default=30,
        help_text="answer when it is ready, or after so long with its state",
    )


class LoadedModelSerializer(serializers.ModelSerializer[LoadedModel]):
    name = serializers.CharField(source="version.model.name")
    version = serializers.IntegerField(source="version.number")
    framework = serializers.CharField(source="version.framework")
    task = serializers.CharField(source="version.task")
    pinned = serializers.BooleanField(source="is_pinned")
    loaded_by = serializers.CharField(source="owner.username", default=None)
    memory_mb = serializers.SerializerMethodField(help_text="measured; null until it is ready")
    error = serializers.SerializerMethodField()

    class Meta:
        model = LoadedModel
        fields = [
            "name",
            "version",
            "framework",
            "task",
            "state",
            "stage",
            "error",
            "error_code",
            "device",
            "optimization_level",
            "pinned",
            "keep_alive_seconds",
            "memory_mb",
            "load_seconds",
            "signature",
            "pid",
            "loaded_by",
            "last_used_at",
            "created_at",
        ]
        read_only_fields = fields

    def get_memory_mb(self, loaded: LoadedModel) -> float | None:
        return None if loaded.memory_bytes is None else as_megabytes(loaded.memory_bytes)

    def get_error(self, loaded: LoadedModel) -> str | None:
        return loaded.error or None


class LoadedMetadataSerializer(serializers.Serializer[LoadedModel]):
    """What document 004 tells of a model, from what its worker told."""

    framework = serializers.CharField(source="version.framework")
    provider = serializers.CharField(source="device")
    input_names = serializers.SerializerMethodField()
    output_names = serializers.SerializerMethodField()
    input_shapes = serializers.SerializerMethodField(help_text="-1: any size")
    output_shapes = serializers.SerializerMethodField()

    def get_input_names(self, loaded: LoadedModel) -> list[str]:
        return _each(loaded, "inputs", "name")

    def get_output_names(self, loaded: LoadedModel) -> list[str]:
        return _each(loaded, "outputs", "name")

    def get_input_shapes(self, loaded: LoadedModel) -> list[list[int]]:
        return _each(loaded, "inputs", "shape")

    def get_output_shapes(self, loaded: LoadedModel) -> list[list[int]]:
        return _each(loaded, "outputs", "shape")


def _each(loaded: LoadedModel, side: str, fact: str) -> list[Any]:
    """Empty until the worker has told what it takes."""
    return [tensor[fact] for tensor in (loaded.signature or {}).get(side, [])]


class LoadAnswerSerializer(LoadedModelSerializer):
    success = serializers.SerializerMethodField(help_text="it is ready to answer")
    model_name = serializers.CharField(source="version.model.name")
    metadata = LoadedMetadataSerializer(source="*")

    class Meta(LoadedModelSerializer.Meta):
        fields = ["success", "model_name", "metadata", *LoadedModelSerializer.Meta.fields]
        read_only_fields = fields

    def get_success(self, loaded: LoadedModel) -> bool:
        return loaded.state == State.READY


class InputsField(serializers.JSONField):
    """An object {name: values}, or a list: rows of a table, or the only input of a model."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, dict | list) or not data:
            raise serializers.ValidationError(
                "must be an object {name: values}, or a list of rows", code="invalid"
            )
        return data


class PredictSerializer(ChangeSerializer):
    model_name = serializers.CharField(max_length=200)
    inputs = InputsField()
    outputs = serializers.ListField(
        child=serializers.CharField(max_length=200),
        required=False,
        default=None,
        allow_null=True,
        max_length=100,
        help_text="names of those wanted; all, if none are named",
    )
    timeout_seconds = serializers.FloatField(
        min_value=0.001, max_value=LONGEST_TIMEOUT_SECONDS, default=30
    )
    batch_size = serializers.IntegerField(
        min_value=1,
        max_value=MOST_BATCH_SIZE,
        default=None,
        allow_null=True,
        help_text="rows that one call of the engine may take; by itself as many as come",
    )
    return_metadata = serializers.BooleanField(default=False)


class MetadataSerializer(serializers.Serializer[Any]):
    framework = serializers.CharField()
    task = serializers.CharField()
    device = serializers.CharField()
    queue_ms = serializers.FloatField(help_text="waited for the batch before")
    compute_ms = serializers.FloatField(help_text="of the whole batch")
    batch_rows = serializers.IntegerField(help_text="rows of all requests in the batch")


class PredictionSerializer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    model_name = serializers.CharField()
    version = serializers.IntegerField()
    outputs = serializers.DictField(child=serializers.JSONField())
    latency_ms = serializers.FloatField()
    metadata = MetadataSerializer(allow_null=True)
