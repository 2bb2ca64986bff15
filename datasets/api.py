"""REST of datasets: list, upload, look, preview, download, change, delete."""

from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from datasets import removal, services, sources
from datasets.models import Dataset, DatasetVersion
from datasets.serializers import (
    ChangeSerializer,
    DatasetDetailSerializer,
    DatasetSerializer,
    DatasetVersionSerializer,
    PreviewQuerySerializer,
    PreviewSerializer,
    RegisterSerializer,
    RestoreSerializer,
    StatisticsSerializer,
    UploadSerializer,
    VersionQuerySerializer,
)
from datasets.statistics import find_statistics, request_statistics
from jobs.models import Job
from jobs.serializers import JobSerializer
from mlserver.api.json import JSONParser
from mlserver.api.paging import SkipLimitPagination
from mlserver.lib.downloads import file_response
from mlserver.lib.errors import TooLarge
from mlserver.lib.files import require_space

FORM_BYTES = 2**20
"""What a multipart body may have beside its file."""
LATEST_FIELDS = ("number", "format", "kind", "sample_count", "dimensions", "size_bytes", "sha256")
NUMBER = OpenApiParameter("number", int, OpenApiParameter.PATH, description="counts from 1")


def with_latest(rows: QuerySet[Dataset]) -> QuerySet[Dataset]:
    """Datasets with the figures of their newest version as `latest_…`, in one query."""
    newest = DatasetVersion.objects.filter(dataset=OuterRef("pk")).order_by("-number")
    figures = {f"latest_{name}": Subquery(newest.values(name)[:1]) for name in LATEST_FIELDS}
    return rows.select_related("owner").annotate(
        **figures, version_count=Count("versions", distinct=True)
    )


class DatasetViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet[Dataset]):
    """What one can learn from."""

    serializer_class = DatasetSerializer
    queryset = Dataset.objects.all()
    lookup_field = "name"
    parser_classes = [JSONParser, MultiPartParser]
    filter_fields = {"format": "versions__format", "owner": "owner__username"}
    search_fields = ["name", "description"]
    ordering_fields = {
        "name": "name",
        "created_at": "created_at",
        "size_bytes": "latest_size_bytes",
        "sample_count": "latest_sample_count",
    }

    def get_queryset(self) -> QuerySet[Dataset]:
        return with_latest(super().get_queryset())

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        # The format filter joins the versions, of which several may match.
        return super().filter_queryset(queryset).distinct()

    @extend_schema(responses=DatasetDetailSerializer)
    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """One dataset with columns, target, classes and warnings of its newest version."""
        return Response(DatasetDetailSerializer(self.get_object()).data)

    @extend_schema(
        request={
            "multipart/form-data": UploadSerializer,
            "application/json": RegisterSerializer,
        },
        responses={
            201: DatasetDetailSerializer,
            200: DatasetDetailSerializer,
            202: JobSerializer,
        },
        examples=[
            OpenApiExample(
                "A file on the server",
                value={"path": "measurements.csv", "name": "measurements", "target": "label"},
                request_only=True,
                media_type="application/json",
            )
        ],
    )
    def create(self, request: Request) -> Response:
        """Upload a file, or name one that came in pieces, lies in the datasets directory, at an
        address or on the Hugging Face Hub.

        The file is read at once. Under an existing name of yours it becomes the next
        version; 200 instead of 201 says that this very file is there already. What takes long to
        fetch is answered with 202 and a job: GET /jobs/{job_id} tells how far it is, and in the
        end which dataset it became; DELETE ends it.
        """
        _check_length(request)
        if _is_json(request):
            asked = RegisterSerializer(data=request.data)
            asked.is_valid(raise_exception=True)
            taken = sources.register(owner=_user(request), **asked.validated_data)
            if isinstance(taken, Job):
                return Response(JobSerializer(taken).data, status=status.HTTP_202_ACCEPTED)
            version, is_new = taken
        else:
            asked_upload = UploadSerializer(data=_plain(request))
            asked_upload.is_valid(raise_exception=True)
            values = asked_upload.validated_data
            version, is_new = services.add_upload(
                owner=_user(request),
                upload=values.pop("file"),
                name=values.pop("name", ""),
                **values,
            )
        dataset = self.get_queryset().get(pk=version.dataset_id)
        return Response(
            DatasetDetailSerializer(dataset).data,
            status=status.HTTP_201_CREATED if is_new else status.HTTP_200_OK,
        )

    @extend_schema(request=ChangeSerializer, responses=DatasetDetailSerializer)
    def partial_update(self, request: Request, name: str) -> Response:
        """Rename or describe a dataset."""
        asked = ChangeSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        dataset = self.get_object()
        services.change_dataset(dataset, _user(request), **asked.validated_data)
        return Response(DatasetDetailSerializer(dataset).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, name: str) -> Response:
        """Move a dataset with its files to the trash, where they stay for a week; 409 while a
        session uses it."""
        removal.delete_dataset(self.get_object(), _user(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=RestoreSerializer, responses=DatasetDetailSerializer)
    @action(detail=True, methods=["post"])
    def restore(self, request: Request, name: str) -> Response:
        """Take back what was deleted last under this name, under another one if it is taken."""
        asked = RestoreSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        new_name = asked.validated_data.get("name", "")
        dataset = removal.restore_dataset(name, _user(request), new_name=new_name)
        return Response(DatasetDetailSerializer(self.get_queryset().get(pk=dataset.pk)).data)

    @extend_schema(parameters=[VersionQuerySerializer], responses=StatisticsSerializer)
    @action(detail=True)
    def statistics(self, request: Request, name: str) -> Response:
        """Ranges, histograms, most frequent values, label balance, duplicates.

        They are made in the background: `state` tells how far that is.
        """
        return _answer_statistics(_asked_version(request, name))

    @extend_schema(
        parameters=[VersionQuerySerializer], request=None, responses={202: StatisticsSerializer}
    )
    @statistics.mapping.post
    def make_statistics(self, request: Request, name: str) -> Response:
        """Make them where they are missing or failed."""
        version = _asked_version(request, name)
        if not version.statistics:
            request_statistics(version, _user(request))
        return _answer_statistics(version, status.HTTP_202_ACCEPTED)

    @extend_schema(parameters=[PreviewQuerySerializer], responses=PreviewSerializer)
    @action(detail=True)
    def preview(self, request: Request, name: str) -> Response:
        """A page of rows."""
        asked = PreviewQuerySerializer(data=request.query_params)
        asked.is_valid(raise_exception=True)
        page, page_size = asked.validated_data["page"], asked.validated_data["page_size"]
        version = _version(name, asked.validated_data.get("version"))
        preview = services.read_preview(version, page, page_size)
        return Response({**preview, "page": page, "page_size": page_size})

    @extend_schema(
        parameters=[VersionQuerySerializer],
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY},
    )
    @action(detail=True)
    def download(self, request: Request, name: str) -> HttpResponseBase:
        """The file as it was uploaded; a `Range` continues a broken download."""
        return _answer_file(request, _asked_version(request, name))

    @extend_schema(responses=DatasetVersionSerializer(many=True), filters=False)
    @action(detail=True)
    def versions(self, request: Request, name: str) -> Response:
        """All versions, the newest first."""
        rows = self.get_object().versions.select_related("created_by")
        paginator = SkipLimitPagination()
        page = paginator.paginate_queryset(rows, request)
        return paginator.get_paginated_response(DatasetVersionSerializer(page, many=True).data)

    @extend_schema(parameters=[NUMBER], responses=DatasetVersionSerializer)
    @action(detail=True, url_path=r"versions/(?P<number>[1-9][0-9]{0,8})", url_name="version")
    def one_version(self, request: Request, name: str, number: str) -> Response:
        """One version."""
        return Response(DatasetVersionSerializer(_version(name, int(number))).data)


def _user(request: Request) -> User:
    """Behind the permission classes: somebody is known."""
    assert isinstance(request.user, User)
    return request.user


def _version(name: str, number: int | None) -> DatasetVersion:
    return services.find_version(name if number is None else f"{name}@{number}")


def _asked_version(request: Request, name: str) -> DatasetVersion:
    asked = VersionQuerySerializer(data=request.query_params)
    asked.is_valid(raise_exception=True)
    return _version(name, asked.validated_data.get("version"))


def _answer_statistics(version: DatasetVersion, code: int = status.HTTP_200_OK) -> Response:
    found = find_statistics(version)
    answer = {"version": version.number, "state": found.state, **(found.values or {})}
    if found.job is not None:
        answer |= {"job_id": found.job.pk, "error": found.job.error}
    return Response(StatisticsSerializer(answer).data, status=code)


def _answer_file(request: Request, version: DatasetVersion) -> HttpResponseBase:
    path = services.data_file(version)
    filename = f"{version.dataset.name}-v{version.number}.{version.format}"
    return file_response(request._request, path, filename=filename, sha256=version.sha256)


def _check_length(request: Request) -> None:
    """Refuse by the announced length, before the body is read."""
    length = int(request.META.get("CONTENT_LENGTH") or 0)
    if length > settings.MAX_UPLOAD_SIZE + FORM_BYTES:
        raise TooLarge(
            f"The upload has {length:,} bytes; the limit here is {settings.MAX_UPLOAD_SIZE:,}."
        )
    require_space(settings.DATASETS_DIR, length)


def _is_json(request: Request) -> bool:
    return (request.content_type or "").split(";")[0].strip() == "application/json"


def _plain(request: Request) -> dict[str, Any]:
    """One value a field, as people mean it; a QueryDict would also know lists."""
    fields: Any = request.data
    return {key: fields[key] for key in fields}
