"""GET /v1/models and /v1/models/{model}: the models that OpenAI's clients can ask here."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference.references import find_reference
from mlserver.api.permissions import IsViewer
from mlserver.lib.errors import NotFound
from models_registry.models import ModelVersion, RegisteredModel
from models_registry.services import find_version

TASKS = ("causal", "text2text", "embed")


class ModelsView(APIView):
    permission_classes = (IsViewer,)

    @extend_schema(
        operation_id="v1_models",
        summary="Models that write or embed text (OpenAI)",
        tags=["openai"],
        responses=OpenApiTypes.OBJECT,
    )
    def get(self, request: Request) -> Response:
        """Those whose latest version writes or embeds text, in memory or not."""
        rows: Any = RegisteredModel.objects.with_latest()
        newest = [(row, version) for row in rows for version in row.newest]
        data = [_describe(row.name, each, row) for row, each in newest if each.task in TASKS]
        return Response({"object": "list", "data": data})


class ModelView(APIView):
    permission_classes = (IsViewer,)

    @extend_schema(
        operation_id="v1_model",
        summary="One of them (OpenAI)",
        tags=["openai"],
        responses=OpenApiTypes.OBJECT,
    )
    def get(self, request: Request, name: str) -> Response:
        try:
            version = find_version(find_reference(name, None, default=name))
        except NotFound as error:
            raise NotFound(error.detail, code="model_not_found") from error
        return Response(_describe(name, version, version.model))


def _describe(name: str, version: ModelVersion, model: RegisteredModel) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": int(version.created_at.timestamp()),
        "owned_by": model.owner.username if model.owner else "nobody",
    }
