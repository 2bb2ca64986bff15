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
    LoadedModelSerializer,
    LoadSerializer,
)
from inference.services import Wish

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
        responses={200: LoadedModelSerializer, 202: LoadedModelSerializer},
        examples=[OpenApiExample("digits", value={"model_name": "digits"}, request_only=True)],
    )
    def load(self, request: Request) -> Response:
        """200 when it is ready, 202 when it still loads after `wait_seconds`. The least recently
        used models make room; 507 with the numbers where none may."""
        asked = LoadSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        options = dict(asked.validated_data)
        name, wait_seconds = options.pop("model_name"), options.pop("wait_seconds")
        loaded = services.load_model(name, cast(User, request.user), Wish(**options))
        loaded = services.wait_until_loaded(loaded, wait_seconds)
        is_ready = loaded.state == State.READY
        code = status.HTTP_200_OK if is_ready else status.HTTP_202_ACCEPTED
        return Response(LoadedModelSerializer(loaded).data, status=code)

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
