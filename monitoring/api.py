"""REST: health (open to everyone) and what the machine is doing."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from mlserver.api.json import JSONRenderer
from mlserver.lib.errors import FieldError, Invalid, NotFound
from monitoring.effective import describe_config
from monitoring.health import check_health, check_readiness
from monitoring.models import GpuUse
from monitoring.prometheus import CONTENT_TYPE, describe_metrics, render_metrics
from monitoring.serializers import (
    ConfigSerializer,
    GpusSerializer,
    GpuUsesSerializer,
    HealthSerializer,
    HistorySerializer,
    MetricsSerializer,
    ProcessesSerializer,
    ReadinessSerializer,
    SystemInfoSerializer,
)
from monitoring.series import DEFAULT_METRICS, MOST_METRICS, RANGES, read_history
from monitoring.services import describe_now, describe_processes, latest_processes
from monitoring.spans import read_span
from monitoring.use import read_days, read_use, whole_hour

SPAN_PARAMETERS = [
    OpenApiParameter("start", OpenApiTypes.DATETIME, description="instead of range"),
    OpenApiParameter("end", OpenApiTypes.DATETIME, description="with start (now)"),
]


class OpenView(APIView):
    """Needs no key, and so looks at none: a probe is no attempt to come in."""

    authentication_classes = []
    permission_classes = [AllowAny]


class HealthView(OpenView):
    @extend_schema(summary="How the server is", responses=HealthSerializer, auth=[])
    def get(self, request: Request) -> Response:
        return _fresh(check_health())


class LiveView(OpenView):
    @extend_schema(
        summary="Whether this process answers",
        responses=inline_serializer("Live", {"status": serializers.CharField()}),
        auth=[],
    )
    def get(self, request: Request) -> Response:
        return _fresh({"status": "live"})


class ReadyView(OpenView):
    @extend_schema(
        summary="Whether work may be sent here",
        responses={200: ReadinessSerializer, 503: ReadinessSerializer},
        auth=[],
    )
    def get(self, request: Request) -> Response:
        readiness = check_readiness()
        if readiness["ready"]:
            return _fresh(readiness)
        response = _fresh(readiness, 503)
        response["Retry-After"] = "15"  # the next canary
        return response


class SystemInfoView(APIView):
    @extend_schema(
        summary="CPU, memory, disk, network and GPUs now",
        description="A reading that could not be taken is null; `reasons` says why.",
        responses=SystemInfoSerializer,
    )
    def get(self, request: Request) -> Response:
        return _fresh(describe_now())


class GpusView(APIView):
    @extend_schema(
        summary="The GPUs now",
        description="MIG instances follow their GPU and name it in `parent_uuid`.",
        responses=GpusSerializer,
    )
    def get(self, request: Request) -> Response:
        now = describe_now()
        return _fresh({"results": now["gpus"], "reason": now["gpu_reason"]})


class GpuUseView(APIView):
    @extend_schema(
        summary="Who used a GPU, how long, and what it took",
        description="Kept by the hour: the first hour counts whole.",
        parameters=[
            OpenApiParameter("range", enum=list(RANGES), description="up to now (24h)"),
            *SPAN_PARAMETERS,
        ],
        responses=GpuUsesSerializer,
    )
    def get(self, request: Request, uuid: str) -> Response:
        span = read_span(request.query_params, "24h")
        uses = read_use(uuid, span)
        if not uses and not GpuUse.objects.filter(uuid=uuid).exists():
            raise NotFound(f"Nothing is known of a GPU {uuid[:80]}; /system/gpus lists them.")
        return _fresh(
            {
                "start": whole_hour(span.start),
                "end": span.end,
                "results": [
                    {
                        "session": use.session_id,
                        "owner": use.owner,
                        "held_seconds": round(use.seconds, 1),
                        "energy_kwh": use.kwh,
                    }
                    for use in uses
                ],
                "days": [{"date": day, "energy_kwh": kwh} for day, kwh in read_days(uuid, span)],
            }
        )


class ProcessesView(APIView):
    @extend_schema(
        summary="Who uses the machine: GPU processes, trainings, the server itself",
        responses=ProcessesSerializer,
    )
    def get(self, request: Request) -> Response:
        return _fresh(describe_processes(latest_processes()))


class HistoryView(APIView):
    @extend_schema(
        summary="Readings over time",
        description=(
            "Buckets with mean, minimum and maximum; the finest that the range allows. "
            "A gap is null. Names are those of the host (`cpu_percent`, …) or "
            "`gpu.<uuid>.busy_percent`; an unknown one is answered with the list."
        ),
        parameters=[
            OpenApiParameter("range", enum=list(RANGES), description="up to now (5m)"),
            *SPAN_PARAMETERS,
            OpenApiParameter("metrics", description="names, separated by commas"),
            OpenApiParameter("host", description="machine (the one that was read last)"),
        ],
        responses=HistorySerializer,
    )
    def get(self, request: Request) -> Response:
        return _fresh(query_history(request.query_params))


def query_history(query: Any) -> dict[str, Any]:
    """The answer to ?range=&metrics= or ?start=&end=&metrics=; raises Invalid."""
    names = [name.strip() for name in query.get("metrics", "").split(",") if name.strip()]
    if len(names) > MOST_METRICS:
        message = f"metrics may name at most {MOST_METRICS}, got {len(names)}"
        raise Invalid(f"{message}.", errors=[FieldError(field="metrics", message=message)])
    span = read_span(query, "5m")
    found = read_history(
        dict.fromkeys(names or DEFAULT_METRICS), span.start, span.end, host=query.get("host", "")
    )
    return {"range": span.label, "start": span.start, "end": span.end, **found}


class ConfigView(APIView):
    @extend_schema(
        operation_id="server_config",
        summary="Recipes with their fields and ranges, and limits; for admins the settings",
        responses=ConfigSerializer,
    )
    def get(self, request: Request) -> Response:
        return Response(describe_config(request.user))


class TextRenderer(BaseRenderer):
    """Only a name for the negotiation: the view writes the text itself."""

    media_type = "text/plain"
    format = "txt"
    charset = "utf-8"

    def render(self, data: Any, *_: Any) -> bytes:
        return str(data).encode()


class MetricsView(APIView):
    renderer_classes = [TextRenderer, JSONRenderer]

    @extend_schema(
        operation_id="metrics",
        tags=["server"],
        summary="For Prometheus; with Accept: application/json three numbers",
        responses={
            (200, "text/plain"): OpenApiTypes.STR,
            (200, "application/json"): MetricsSerializer,
        },
    )
    def get(self, request: Request) -> Response | HttpResponse:
        if isinstance(request.accepted_renderer, JSONRenderer):
            return _fresh(describe_metrics())
        answer = HttpResponse(render_metrics(), content_type=CONTENT_TYPE)
        answer["Cache-Control"] = "no-store"
        return answer


def _fresh(data: object, status: int = 200) -> Response:
    return Response(data, status=status, headers={"Cache-Control": "no-store"})
