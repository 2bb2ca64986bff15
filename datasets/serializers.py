"""Datasets and their versions as JSON, and what a request for a new one may hold."""

from typing import Any

from rest_framework import serializers

from datasets.models import Dataset, DatasetVersion
from datasets.sources import SOURCES

MEGABYTE = 1_000_000


class DatasetVersionSerializer(serializers.ModelSerializer[DatasetVersion]):
    """One version; it never changes."""

    version = serializers.IntegerField(source="number")
    size_mb = serializers.SerializerMethodField(help_text="size_bytes / 1,000,000")
    target = serializers.SerializerMethodField(help_text="the column that is learned")
    classes = serializers.SerializerMethodField(help_text="null where the target is a quantity")
    columns = serializers.SerializerMethodField(
        help_text="name, type, shape, nulls, distinct, min and max of each"
    )
    warnings = serializers.SerializerMethodField(help_text="what to know before learning from it")
    created_by = serializers.CharField(source="created_by.username", default=None)

    class Meta:
        model = DatasetVersion
        fields = [
            "version",
            "format",
            "kind",
            "sample_count",
            "dimensions",
            "size_bytes",
            "size_mb",
            "target",
            "classes",
            "columns",
            "warnings",
            "sha256",
            "original_filename",
            "created_by",
            "created_at",
        ]
        read_only_fields = fields

    def get_size_mb(self, version: DatasetVersion) -> float:
        return round(version.size_bytes / MEGABYTE, 3)

    def get_target(self, version: DatasetVersion) -> str | None:
        target: str | None = version.schema.get("target")
        return target

    def get_classes(self, version: DatasetVersion) -> list[str | int] | None:
        classes: list[str | int] | None = version.schema.get("classes")
        return classes

    def get_columns(self, version: DatasetVersion) -> list[dict[str, Any]]:
        columns: list[dict[str, Any]] = version.schema.get("columns", [])
        return columns

    def get_warnings(self, version: DatasetVersion) -> list[str]:
        warnings: list[str] = version.schema.get("warnings", [])
        return warnings


class DatasetSerializer(serializers.ModelSerializer[Dataset]):
    """A dataset with the figures of its newest version."""

    owner = serializers.CharField(source="owner.username", default=None)
    version = serializers.IntegerField(source="latest_number", default=None)
    versions = serializers.IntegerField(source="version_count", default=0)
    format = serializers.CharField(source="latest_format", default=None)
    kind = serializers.CharField(source="latest_kind", default=None)
    sample_count = serializers.IntegerField(source="latest_sample_count", default=None)
    dimensions = serializers.ListField(
        source="latest_dimensions", child=serializers.IntegerField(), default=None
    )
    size_bytes = serializers.IntegerField(source="latest_size_bytes", default=None)
    size_mb = serializers.SerializerMethodField(help_text="size_bytes / 1,000,000")
    sha256 = serializers.CharField(source="latest_sha256", default=None)

    class Meta:
        model = Dataset
        fields = [
            "name",
            "description",
            "owner",
            "is_builtin",
            "version",
            "versions",
            "format",
            "kind",
            "sample_count",
            "dimensions",
            "size_bytes",
            "size_mb",
            "sha256",
            "created_at",
        ]
        read_only_fields = fields

    def get_size_mb(self, dataset: Any) -> float | None:
        size = dataset.latest_size_bytes
        return None if size is None else round(size / MEGABYTE, 3)


class DatasetDetailSerializer(DatasetSerializer):
    """A dataset with everything that is known of its newest version."""

    latest = DatasetVersionSerializer(allow_null=True)

    class Meta(DatasetSerializer.Meta):
        fields = [*DatasetSerializer.Meta.fields, "latest"]
        read_only_fields = fields


class _NewDataset(serializers.Serializer[Any]):
    name = serializers.CharField(
        required=False,
        max_length=100,
        help_text="by default the file's; an existing name gets a new version",
    )
    target = serializers.CharField(
        required=False,
        allow_null=True,
        allow_blank=True,
        max_length=200,
        help_text="the column to learn; by default label, target, class or y, else the last",
    )
    description = serializers.CharField(
        required=False, allow_blank=True, max_length=10_000, default=""
    )

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            _refuse_unknown(data, set(self.fields))
        return super().to_internal_value(data)


class UploadSerializer(_NewDataset):
    """A file, told by its content: CSV, TSV, JSON, JSON Lines, Parquet, NPY, NPZ, plain text
    (.txt), or a ZIP of images with one folder a class."""

    file = serializers.FileField(allow_empty_file=True)


class RegisterSerializer(_NewDataset):
    """A file that does not come with this request: exactly one of path, upload, url and hub."""

    path = serializers.CharField(
        required=False,
        max_length=1000,
        help_text="a file in the datasets directory of the server; it is copied",
    )
    upload = serializers.CharField(
        required=False, max_length=100, help_text="an upload in pieces that is complete"
    )
    url = serializers.CharField(
        required=False, max_length=2000, help_text="http or https, of a public address"
    )
    hub = serializers.CharField(
        required=False, max_length=200, help_text="a dataset of the Hugging Face Hub: owner/name"
    )
    file = serializers.CharField(
        required=False,
        max_length=500,
        help_text="with hub: one file of it, such as data/train.csv; by default the train split",
    )

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        named = [source for source in SOURCES if source in values]
        if len(named) != 1:
            message = f"name exactly one of {', '.join(SOURCES)}"
            raise serializers.ValidationError({"path": message})
        if "file" in values and named != ["hub"]:
            raise serializers.ValidationError({"file": "goes with hub only"})
        return {**values, "source": named[0]}


class ChangeSerializer(serializers.Serializer[Any]):
    """What of a dataset can be changed."""

    name = serializers.CharField(required=False, max_length=100)
    description = serializers.CharField(required=False, allow_blank=True, max_length=10_000)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            _refuse_unknown(data, set(self.fields))
        return super().to_internal_value(data)


class PreviewQuerySerializer(serializers.Serializer[Any]):
    page = serializers.IntegerField(min_value=1, max_value=10**9, default=1)
    page_size = serializers.IntegerField(min_value=1, max_value=1000, default=100)
    version = serializers.IntegerField(
        min_value=1, max_value=10**9, required=False, help_text="by default the newest"
    )


class VersionQuerySerializer(serializers.Serializer[Any]):
    version = serializers.IntegerField(
        min_value=1, max_value=10**9, required=False, help_text="by default the newest"
    )


class RestoreSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(
        required=False, max_length=100, help_text="a new name, where the old one is taken"
    )

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            _refuse_unknown(data, set(self.fields))
        return super().to_internal_value(data)


class HistogramSerializer(serializers.Serializer[Any]):
    counts = serializers.ListField(child=serializers.IntegerField())
    edges = serializers.ListField(
        child=serializers.FloatField(), help_text="one more than counts, rising"
    )


class LengthsSerializer(serializers.Serializer[Any]):
    min = serializers.IntegerField()
    max = serializers.IntegerField()
    mean = serializers.FloatField()
    histogram = HistogramSerializer()


class TopValueSerializer(serializers.Serializer[Any]):
    value = serializers.CharField(help_text="long ones are cut")
    count = serializers.IntegerField()


class ColumnStatisticsSerializer(serializers.Serializer[Any]):
    """Numbers have a range and a histogram; texts and truth values their most frequent ones."""

    name = serializers.CharField()
    type = serializers.CharField()
    nulls = serializers.IntegerField()
    distinct = serializers.IntegerField()
    min = serializers.FloatField(default=None)
    max = serializers.FloatField(default=None)
    mean = serializers.FloatField(default=None)
    std = serializers.FloatField(default=None)
    median = serializers.FloatField(default=None)
    histogram = HistogramSerializer(default=None)
    top = TopValueSerializer(many=True, default=None, help_text="at most 20")
    others = serializers.IntegerField(default=None, help_text="values that are not in top")
    characters = LengthsSerializer(default=None)
    words = LengthsSerializer(default=None)


class LabelSerializer(serializers.Serializer[Any]):
    label = serializers.CharField()  # type: ignore[assignment]  # DRF takes it off the class
    count = serializers.IntegerField()
    share = serializers.FloatField(help_text="0 to 1")


class CheckSerializer(serializers.Serializer[Any]):
    """One thing that is doubtful, with what to do about it."""

    check = serializers.CharField(help_text="duplicates, contradictions, overlap, balance or long")
    count = serializers.IntegerField(help_text="rows, or classes for balance")
    message = serializers.CharField()


class StatisticsSerializer(serializers.Serializer[Any]):
    """Null where they are not made yet."""

    version = serializers.IntegerField()
    state = serializers.CharField(
        help_text="completed, queued, running, paused, failed, cancelled or missing"
    )
    job_id = serializers.CharField(default=None, help_text="of the job that makes them")
    error = serializers.CharField(default="")
    rows = serializers.IntegerField(default=None)
    duplicates = serializers.IntegerField(
        default=None, help_text="rows that are equal to an earlier one"
    )
    columns = ColumnStatisticsSerializer(many=True, default=None, help_text="at most 500")
    columns_total = serializers.IntegerField(default=None)
    labels = LabelSerializer(many=True, default=None, help_text="null for a quantity")
    checks = CheckSerializer(many=True, default=None, help_text="empty: nothing is doubtful")


class PreviewSerializer(serializers.Serializer[Any]):
    """Rows as lists of cells, in the order of `columns`. An image is a data URL of a PNG."""

    columns = serializers.ListField(child=serializers.CharField())
    types = serializers.ListField(
        child=serializers.CharField(), help_text="integer, number, boolean, string or image"
    )
    rows = serializers.ListField(child=serializers.ListField())
    total = serializers.IntegerField(help_text="rows in all")
    columns_total = serializers.IntegerField(help_text="columns in all; the first 200 are shown")
    page = serializers.IntegerField()
    page_size = serializers.IntegerField()


def _refuse_unknown(data: Any, known: set[str]) -> None:
    unknown = [name for name in data if name not in known]
    if unknown:
        raise serializers.ValidationError(
            {name: f"unknown field; known are {', '.join(sorted(known))}" for name in unknown}
        )
