"""Models, versions and aliases as JSON."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from models_registry.models import ModelVersion, RegisteredModel

MEGABYTE = 1_000_000
LONGEST_TEXT = 100_000


def as_megabytes(size_bytes: int) -> float:
    return round(size_bytes / MEGABYTE, 3)


class StoredFileSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    size_bytes = serializers.IntegerField()
    sha256 = serializers.CharField()


class VersionSerializer(serializers.ModelSerializer[ModelVersion]):
    model = serializers.CharField(source="model.name")
    version = serializers.IntegerField(source="number")
    aliases = serializers.SlugRelatedField[Any](slug_field="name", many=True, read_only=True)
    files = StoredFileSerializer(many=True)
    size_mb = serializers.SerializerMethodField()
    created_by = serializers.CharField(source="created_by.username", default=None)

    class Meta:
        model = ModelVersion
        fields = [
            "model",
            "version",
            "aliases",
            "framework",
            "task",
            "metrics",
            "signature",
            "lineage",
            "files",
            "size_bytes",
            "size_mb",
            "card",
            "created_by",
            "created_at",
        ]
        read_only_fields = fields

    def get_size_mb(self, version: ModelVersion) -> float:
        return as_megabytes(version.size_bytes)


class ModelSerializer(serializers.ModelSerializer[RegisteredModel]):
    """A row of `RegisteredModel.objects.with_latest()`: what changes, changes with versions."""

    owner = serializers.CharField(source="owner.username", default=None)
    task = serializers.CharField(allow_null=True, help_text="of the latest version")
    framework = serializers.SerializerMethodField()
    metrics = serializers.SerializerMethodField(help_text="of the latest version")
    latest_version = serializers.SerializerMethodField()
    version_count = serializers.IntegerField()
    aliases = serializers.SerializerMethodField(help_text="alias to version number")
    size_bytes = serializers.IntegerField(allow_null=True, help_text="of the latest version")
    size_mb = serializers.SerializerMethodField()
    updated_at = serializers.DateTimeField(allow_null=True, help_text="of the latest version")

    class Meta:
        model = RegisteredModel
        fields = [
            "name",
            "description",
            "owner",
            "task",
            "framework",
            "latest_version",
            "version_count",
            "aliases",
            "metrics",
            "size_bytes",
            "size_mb",
            "created_at",
            "updated_at",
        ]
        read_only_fields = fields

    def get_framework(self, model: Any) -> str | None:
        return model.newest[0].framework if model.newest else None

    def get_metrics(self, model: Any) -> dict[str, Any]:
        return model.newest[0].metrics if model.newest else {}

    def get_latest_version(self, model: Any) -> int | None:
        return model.newest[0].number if model.newest else None

    def get_aliases(self, model: RegisteredModel) -> dict[str, int]:
        return {alias.name: alias.version.number for alias in model.aliases.all()}

    def get_size_mb(self, model: Any) -> float | None:
        return None if model.size_bytes is None else as_megabytes(model.size_bytes)


class ChangeSerializer(serializers.Serializer[Any]):
    """What a client sends: a field that does not exist is an error, never ignored."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping) and (
            unknown := sorted(set(map(str, data)) - set(self.fields))
        ):
            known = ", ".join(self.fields)
            raise serializers.ValidationError(
                dict.fromkeys(unknown, f"unknown field; known is {known}"), code="unknown"
            )
        return super().to_internal_value(data)


class _NewModel(ChangeSerializer):
    name = serializers.CharField(
        max_length=200, help_text="an existing name gets a new version; org/name becomes org--name"
    )
    description = serializers.CharField(
        required=False, allow_blank=True, max_length=LONGEST_TEXT, default=""
    )


class ModelPiecesSerializer(_NewModel):
    """A file that came in pieces."""

    upload = serializers.CharField(max_length=100, help_text="an upload that is complete")


class ModelUploadSerializer(_NewModel):
    """A ZIP or TAR of a Hugging Face folder with safetensors, an ONNX file with its data files, a
    program of torch.export.save (.pt2), a safetensors file, weights of torch.save (.pth), or a
    model folder of this server."""

    file = serializers.ListField(
        child=serializers.FileField(allow_empty_file=True),
        allow_empty=False,
        help_text="one archive or file, or every file of a folder",
    )


class ModelChangeSerializer(ChangeSerializer):
    description = serializers.CharField(allow_blank=True, max_length=LONGEST_TEXT)


class VersionChangeSerializer(ChangeSerializer):
    card = serializers.CharField(allow_blank=True, max_length=LONGEST_TEXT, help_text="Markdown")


class ModelRestoreSerializer(ChangeSerializer):
    name = serializers.CharField(
        required=False, max_length=100, help_text="a new name, where the old one is taken"
    )


class AliasChangeSerializer(ChangeSerializer):
    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1)


class AliasSerializer(serializers.Serializer[Any]):
    alias = serializers.CharField(source="name")
    model = serializers.CharField(source="model.name")
    version = serializers.IntegerField(source="version.number")


class LineageSerializer(serializers.ModelSerializer[ModelVersion]):
    """Where a version comes from, as facts that were true when it was made."""

    model = serializers.CharField(source="model.name")
    version = serializers.IntegerField(source="number")
    created_by = serializers.CharField(source="created_by.username", default=None)

    class Meta:
        model = ModelVersion
        fields = ["model", "version", "lineage", "created_by", "created_at"]
        read_only_fields = fields


class TensorSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    dtype = serializers.CharField()
    shape = serializers.ListField(child=serializers.IntegerField())
    size_bytes = serializers.IntegerField()


class HeaderSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    parameter_count = serializers.IntegerField()
    dtypes = serializers.DictField(child=serializers.IntegerField())
    tensors = TensorSerializer(many=True)
    metadata = serializers.DictField(child=serializers.CharField())


class HeadersSerializer(serializers.Serializer[Any]):
    parameter_count = serializers.IntegerField(help_text="of all files together")
    files = HeaderSerializer(many=True)
