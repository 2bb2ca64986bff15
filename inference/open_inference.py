"""The rest of the Open Inference Protocol: what the server and its models are, load and unload."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from django.contrib.auth.models import User
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers, status
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference import services
from inference.client import NotAnswering
from inference.models import LoadedModel, State
from inference.open_inference_serializers import (
    IndexEntrySerializer,
    IndexSerializer,
    ModelMetadataSerializer,
    ModelReadySerializer,
    ProtocolServerSerializer,
    RepositorySerializer,
)
from inference.plane.open_inference import protocol_errors
from inference.services import LoadFailed, NotLoaded, Wish
from mlserver.api.json import JSONParser
from mlserver.api.permissions import IsViewer
from mlserver.lib.errors import Invalid, NoSpace, Unavailable
from mlserver.version import VERSION
from models_registry.models import ModelVersion

EXTENSIONS = ["binary_tensor_data", "model_repository"]
LOAD_SECONDS = 60.0
MOST_LISTED = 1000
STATES = {
    State.READY: "READY",
    State.WAITING: "LOADING",
    State.LOADING: "LOADING",
    State.UNLOADING: "UNLOADING",
    State.FAILED: "UNAVAILABLE",
}


class AnyJSON(JSONParser):
    """Some clients of this protocol name no type."""

    media_type = "*/*"


class ServerView(APIView):
    @extend_schema(
        operation_id="v2_server",
        summary="What this server speaks, by the Open Inference Protocol",
        responses=ProtocolServerSerializer,
    )
    def get(self, request: Request) -> Response:
        return Response({"name": "mlserver", "version": VERSION, "extensions": EXTENSIONS})


class HealthView(APIView):
    """Needs no key, and so looks at none: a probe is no attempt to come in."""

    authentication_classes = ()
    permission_classes = (AllowAny,)


class LiveView(HealthView):
    @extend_schema(
        operation_id="v2_live",
        summary="Whether this process answers, by the Open Inference Protocol",
        responses=inline_serializer("V2Live", {"live": serializers.BooleanField()}),
        auth=[],
    )
    def get(self, request: Request) -> Response:
        return Response({"live": True})


READY = inline_serializer("V2Ready", {"ready": serializers.BooleanField()})


class ReadyView(HealthView):
    @extend_schema(
        operation_id="v2_ready",
        summary="Whether models may be asked, by the Open Inference Protocol",
        responses={200: READY, 503: READY},
        auth=[],
    )
    def get(self, request: Request) -> Response:
        """503 while nobody keeps models in memory."""
        ready = services.has_manager()
        code = status.HTTP_200_OK if ready else status.HTTP_503_SERVICE_UNAVAILABLE
        return Response({"ready": ready}, status=code)


class ModelView(APIView):
    @extend_schema(
        summary="What a model takes and gives, by the Open Inference Protocol",
        responses=ModelMetadataSerializer,
    )
    def get(self, request: Request, name: str, version: str = "") -> Response:
        with protocol_errors():
            loaded = services.find_ready(_reference(name, version))
        assert loaded.signature is not None
        return Response(
            {
                "name": name,
                "versions": [str(row.version.number) for row in _ready_rows(name)],
                "platform": loaded.version.framework,
                "inputs": loaded.signature["inputs"],
                "outputs": loaded.signature["outputs"],
            }
        )


class ModelReadyView(APIView):
    @extend_schema(
        summary="Whether a model answers, by the Open Inference Protocol",
        responses={200: ModelReadySerializer, 503: ModelReadySerializer},
    )
    def get(self, request: Request, name: str, version: str = "") -> Response:
        """503 for a model that is not in memory, failed, or whose worker is replaced."""
        try:
            services.find_ready(_reference(name, version))
        except (NotAnswering, NotLoaded, LoadFailed, NoSpace):
            return Response({"name": name, "ready": False}, status=503)
        return Response({"name": name, "ready": True})


class IndexView(APIView):
    parser_classes = (AnyJSON,)
    permission_classes = (IsViewer,)

    @extend_schema(
        operation_id="v2_repository_index",
        summary="All models, by the Open Inference Protocol",
        request=IndexSerializer,
        responses=IndexEntrySerializer(many=True),
    )
    def post(self, request: Request) -> Response:
        """Up to 1000 versions; those in memory first."""
        only_ready = isinstance(request.data, dict) and request.data.get("ready") is True
        entries = _entries()
        return Response([e for e in entries if e["state"] == "READY" or not only_ready])


class LoadView(APIView):
    parser_classes = (AnyJSON,)

    @extend_schema(
        operation_id="v2_repository_load",
        summary="Load a model, by the Open Inference Protocol",
        request=RepositorySerializer,
        responses={200: None},
    )
    def post(self, request: Request, name: str) -> Response:
        """Answers when it is ready."""
        with protocol_errors():
            _refuse_parameters(request, {})
            loaded = services.load_model(name, cast(User, request.user), Wish())
            loaded = services.wait_until_loaded(loaded, LOAD_SECONDS)
        if loaded.state != State.READY:
            raise Unavailable(f"{loaded} is still {loaded.state} after {LOAD_SECONDS:g} seconds.")
        return Response()


class UnloadView(APIView):
    parser_classes = (AnyJSON,)

    @extend_schema(
        operation_id="v2_repository_unload",
        summary="Unload a model, by the Open Inference Protocol",
        request=RepositorySerializer,
        responses={200: None},
    )
    def post(self, request: Request, name: str) -> Response:
        """What it has begun is answered first."""
        with protocol_errors():
            _refuse_parameters(request, {"unload_dependents": False})
            services.unload_model(name, cast(User, request.user))
        return Response()


def _reference(name: str, version: str) -> str:
    return f"{name}@{version}" if version else name


def _ready_rows(name: str) -> list[LoadedModel]:
    return list(LoadedModel.objects.of_model(name.partition("@")[0]).filter(state=State.READY))


def _entries() -> list[dict[str, str]]:
    rows = LoadedModel.objects.select_related("version__model").order_by("version_id")
    loaded = list(rows[:MOST_LISTED])
    listed = {row.version_id for row in loaded}
    resting = ModelVersion.objects.exclude(pk__in=listed).select_related("model")
    return [*_of_loaded(loaded), *_of_resting(list(resting[: MOST_LISTED - len(loaded)]))]


def _of_loaded(rows: list[LoadedModel]) -> Iterator[dict[str, str]]:
    for row in rows:
        yield _entry(row.version, STATES[State(row.state)], row.error)


def _of_resting(versions: list[ModelVersion]) -> Iterator[dict[str, str]]:
    for version in versions:
        yield _entry(version, "UNAVAILABLE", "not loaded")


def _entry(version: ModelVersion, state: str, reason: str) -> dict[str, str]:
    number = str(version.number)
    return {"name": version.model.name, "version": number, "state": state, "reason": reason}


def _refuse_parameters(request: Request, allowed: dict[str, Any]) -> None:
    """The only values allowed are those that change nothing."""
    body = request.data if isinstance(request.data, dict) else {}
    parameters = body.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise Invalid("parameters must be an object.")
    for name, value in parameters.items():
        if name not in allowed or value != allowed[name]:
            raise Invalid(f"The parameter {name[:100]!r} is not supported.")
