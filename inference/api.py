"""REST of models in memory: parse, call a service, answer."""

from typing import Any, cast

from django.contrib.auth.models import User
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import mixins, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from inference import services
from inference.models import LoadedModel, State
from inference.serializers import (
    LoadAnswerSerializer,
    LoadedModelSerializer,
    LoadSerializer,
)
from inference.services import Wish
from mlserver.lib.errors import FieldError, Invalid
from models_registry.uploads import add_path

NAME = OpenApiParameter("name", location="path", description="`digits`, or `digits@3`.")


class LoadedModelViewSet(mixins.ListModelMixin, GenericViewSet[LoadedModel]):
    """What is in memory, on its way there, or failed to get there."""

    queryset = LoadedModel.objects.select_related("version__model", "owner")
    serializer_class = LoadedModelSerializer
    filter_fields = ["state", "device"]
    ordering_fields = ["created_at", "last_used_at", "memory_bytes"]

    @extend_schema(summary="Models in memory")
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().list(request, *args, **kwargs)

    @extend_schema(
        summary="Load a model",
        request=LoadSerializer,
        responses={
            201: LoadAnswerSerializer,
            200: LoadAnswerSerializer,
            202: LoadAnswerSerializer,
        },
        examples=[
            OpenApiExample("digits", value={"model_name": "digits"}, request_only=True),
            OpenApiExample(
                "a file of the server",
                value={"path": "/models/resnet50.onnx", "model_name": "resnet50"},
                request_only=True,
            ),
        ],
    )
    def load(self, request: Request) -> Response:
        """201 when it is ready, 200 when it was before, 202 when it still loads after
        `wait_seconds`. The least recently used models make room; 507 with the numbers where none
        may."""
        asked = LoadSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        options = dict(asked.validated_data)
        wait_seconds = options.pop("wait_seconds")
        person = cast(User, request.user)
        name = _bring(person, options.pop("path", None), options.pop("model_name", ""))
        loaded = services.load_model(name, person, Wish(**options))
        was_ready = loaded.state == State.READY
        loaded = services.wait_until_loaded(loaded, wait_seconds)
        return Response(LoadAnswerSerializer(loaded).data, status=_code(loaded, was_ready))

    @extend_schema(
        summary="Unload a model",
        parameters=[NAME],
        request=None,
        responses={202: LoadedModelSerializer},
    )
    def unload(self, request: Request, name: str) -> Response:
        """What it has begun is answered; then its process ends and its memory is free."""
        loaded = services.unload_model(name, cast(User, request.user))
        return Response(LoadedModelSerializer(loaded).data, status=status.HTTP_202_ACCEPTED)


def _code(loaded: LoadedModel, was_ready: bool) -> int:
    if loaded.state != State.READY:
        return status.HTTP_202_ACCEPTED
    return status.HTTP_200_OK if was_ready else status.HTTP_201_CREATED


def _bring(person: User, path: str | None, name: str) -> str:
    """Which version is to be loaded; a path becomes one."""
    if path is not None:
        version, _ = add_path(owner=person, path=path, name=name)
        return str(version)
    if not name:
        message = "name a model of the registry, or the path of one"
        raise Invalid(
            f"model_name: {message}.", errors=[FieldError(field="model_name", message=message)]
        )
    return name
