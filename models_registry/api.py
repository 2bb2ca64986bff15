"""REST of models: parse, call a service, answer."""

from typing import Any, cast

from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import mixins, status
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from mlserver.api.json import JSONParser
from mlserver.lib.downloads import file_response, zip_response
from models_registry import removal, services, uploads
from models_registry.models import ModelVersion, RegisteredModel
from models_registry.names import LATEST
from models_registry.serializers import (
    AliasChangeSerializer,
    AliasSerializer,
    HeadersSerializer,
    LineageSerializer,
    ModelChangeSerializer,
    ModelPiecesSerializer,
    ModelRestoreSerializer,
    ModelSerializer,
    ModelUploadSerializer,
    VersionChangeSerializer,
    VersionSerializer,
)

TASK = OpenApiParameter("task", description="Only those whose latest version has this task.")
NAME = OpenApiParameter("name", location="path", description="The model's name.")
VERSION = OpenApiParameter(
    "version", location="path", description="A number, an alias, or `latest`."
)
ALIAS = OpenApiParameter("alias", location="path", description="Like `champion`.")
FILE = OpenApiParameter(
    "file", description="One file, with byte ranges. Without it, all of them as a zip."
)
DOWNLOAD = {
    (200, "application/zip"): OpenApiTypes.BINARY,
    (200, "application/octet-stream"): OpenApiTypes.BINARY,
    (206, "application/octet-stream"): OpenApiTypes.BINARY,
}


class ModelViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet[RegisteredModel]
):
    """What was learned: a name, with one version for each training under it."""

    queryset = RegisteredModel.objects.with_latest()
    serializer_class = ModelSerializer
    lookup_field = "name"
    parser_classes = [JSONParser, MultiPartParser]
    filter_fields = {"owner": "owner__username"}
    other_parameters = ["task"]
    search_fields = ["name", "description"]
    ordering_fields = ["name", "created_at", "updated_at", "size_bytes"]

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        rows = super().filter_queryset(queryset)
        task = self.request.query_params.get("task")
        return rows if task is None else rows.filter(Q(("task", task)))

    @extend_schema(summary="List models", parameters=[TASK])
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().list(request, *args, **kwargs)

    @extend_schema(
        summary="Bring a model",
        request={
            "multipart/form-data": ModelUploadSerializer,
            "application/json": ModelPiecesSerializer,
        },
        responses={201: VersionSerializer, 200: VersionSerializer},
    )
    def create(self, request: Request) -> Response:
        """It is looked through in a locked process before it is kept, and never run. 200 instead
        of 201 says that these very files are a version already."""
        is_form = request.content_type.startswith("multipart/")
        asked = (ModelUploadSerializer if is_form else ModelPiecesSerializer)(data=request.data)
        asked.is_valid(raise_exception=True)
        values = asked.validated_data
        if is_form:
            values["files"] = uploads.uploaded_files(values.pop("file"))
            version, is_new = uploads.add_model(owner=_user(request), **values)
        else:
            version, is_new = uploads.add_pieces(owner=_user(request), **values)
        code = status.HTTP_201_CREATED if is_new else status.HTTP_200_OK
        return Response(VersionSerializer(version).data, status=code)

    @extend_schema(summary="One model", parameters=[NAME])
    def retrieve(self, request: Request, name: str) -> Response:
        return self._answer(services.find_model(name))

    @extend_schema(
        summary="Change the description",
        parameters=[NAME],
        request=ModelChangeSerializer,
        responses=ModelSerializer,
    )
    def partial_update(self, request: Request, name: str) -> Response:
        change = ModelChangeSerializer(data=request.data)
        change.is_valid(raise_exception=True)
        model = services.find_model(name)
        services.set_description(model, change.validated_data["description"], _user(request))
        return self._answer(model)

    @extend_schema(summary="Delete a model", parameters=[NAME], responses={204: None})
    def destroy(self, request: Request, name: str) -> Response:
        """With all its versions; 409 while an alias or a use holds one. The files stay in the
        trash for a week."""
        removal.delete_model(services.find_model(name), _user(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(
        summary="Take back what was deleted",
        parameters=[NAME],
        request=ModelRestoreSerializer,
        responses=ModelSerializer,
    )
    def restore(self, request: Request, name: str) -> Response:
        """What was deleted last under this name: a model with its versions, or one version."""
        asked = ModelRestoreSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        new_name = asked.validated_data.get("name", "")
        return self._answer(removal.restore_model(name, _user(request), new_name=new_name))

    def _answer(self, model: RegisteredModel) -> Response:
        return Response(ModelSerializer(self.get_queryset().get(pk=model.pk)).data)


class VersionViewSet(mixins.ListModelMixin, GenericViewSet[ModelVersion]):
    """Files that never change, with the facts about them."""

    queryset = ModelVersion.objects.select_related("model", "created_by").prefetch_related(
        "aliases"
    )
    serializer_class = VersionSerializer
    filter_fields = ["task", "framework"]
    ordering_fields = {"version": "number", "created_at": "created_at", "size_bytes": "size_bytes"}

    def get_queryset(self) -> QuerySet[ModelVersion]:
        rows = super().get_queryset()
        if getattr(self, "swagger_fake_view", False):  # the schema has no model's name
            return rows.none()
        return rows.filter(model=services.find_model(self.kwargs["name"])).order_by("-number")

    @extend_schema(summary="List the versions of a model", parameters=[NAME])
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().list(request, *args, **kwargs)

    @extend_schema(summary="One version", parameters=[NAME, VERSION])
    def retrieve(self, request: Request, name: str, version: str) -> Response:
        return Response(VersionSerializer(_find(name, version)).data)

    @extend_schema(
        summary="Write the card of a version",
        parameters=[NAME, VERSION],
        request=VersionChangeSerializer,
        responses=VersionSerializer,
    )
    def partial_update(self, request: Request, name: str, version: str) -> Response:
        change = VersionChangeSerializer(data=request.data)
        change.is_valid(raise_exception=True)
        found = _find(name, version)
        services.set_card(found, change.validated_data["card"], _user(request))
        return Response(VersionSerializer(found).data)

    @extend_schema(summary="Delete a version", parameters=[NAME, VERSION], responses={204: None})
    def destroy(self, request: Request, name: str, version: str) -> Response:
        """409 while an alias or a use holds it. The files stay in the trash for a week."""
        removal.delete_version(_find(name, version), _user(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(
        summary="Where a version comes from",
        parameters=[NAME, VERSION],
        responses=LineageSerializer,
    )
    def lineage(self, request: Request, name: str, version: str = LATEST) -> Response:
        return Response(LineageSerializer(_find(name, version)).data)

    @extend_schema(
        summary="What its weights are",
        parameters=[NAME, VERSION],
        responses=HeadersSerializer,
    )
    def header(self, request: Request, name: str, version: str) -> Response:
        """Tensors, types and parameter counts of each safetensors file."""
        headers = services.read_header(_find(name, version))
        files = [{"path": path, **header} for path, header in headers.items()]
        total = sum(header["parameter_count"] for header in headers.values())
        return Response(HeadersSerializer({"parameter_count": total, "files": files}).data)


class DownloadViewSet(GenericViewSet[ModelVersion]):
    """The files of a version, as they were registered."""

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        # Whatever `Accept` names: files are sent as they are.
        return super().perform_content_negotiation(request, force=True)

    @extend_schema(summary="Download", parameters=[NAME, VERSION, FILE], responses=DOWNLOAD)
    def download(self, request: Request, name: str, version: str = LATEST) -> HttpResponseBase:
        found = _find(name, version)
        plain = request._request
        file = request.query_params.get("file")
        if file is None:
            return zip_response(
                plain,
                services.list_members(found),
                filename=f"{services.archive_stem(found)}.zip",
                modified=found.created_at,
            )
        path, sha256 = services.find_file(found, file)
        return file_response(plain, path, filename=path.name, sha256=sha256)


class AliasViewSet(GenericViewSet[RegisteredModel]):
    """Movable names of versions, like `champion`."""

    @extend_schema(
        summary="Point an alias at a version",
        parameters=[NAME, ALIAS],
        request=AliasChangeSerializer,
        responses=AliasSerializer,
        examples=[OpenApiExample("third", value={"version": 3}, request_only=True)],
    )
    def update(self, request: Request, name: str, alias: str) -> Response:
        change = AliasChangeSerializer(data=request.data)
        change.is_valid(raise_exception=True)
        version = _find(name, str(change.validated_data["version"]))
        row = services.set_alias(version.model, alias, version, _user(request))
        return Response(AliasSerializer(row).data)

    @extend_schema(summary="Delete an alias", parameters=[NAME, ALIAS], responses={204: None})
    def destroy(self, request: Request, name: str, alias: str) -> Response:
        services.delete_alias(services.find_model(name), alias, _user(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


def _find(name: str, version: str) -> ModelVersion:
    return services.pick_version(services.find_model(name), version)


def _user(request: Request) -> User:
    return cast(User, request.user)  # the permission class let nobody else through
