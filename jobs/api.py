"""REST of jobs of every kind: list, look, cancel, read the log."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from jobs import services
from jobs.access import can_change
from jobs.logs import as_text, read_log
from jobs.models import Job
from jobs.serializers import (
    JobSerializer,
    LogLineSerializer,
    LogPageSerializer,
    LogQuerySerializer,
)
from mlserver.api.json import JSONRenderer
from mlserver.lib.errors import Forbidden

LOG_RESPONSES = {
    (200, "application/json"): LogPageSerializer,
    (200, "text/plain"): OpenApiTypes.STR,
}


class TextRenderer(BaseRenderer):
    """Log lines as a terminal shows them; also makes `Accept: text/plain` acceptable."""

    media_type = "text/plain"
    format = "text"

    def render(self, data: Any, *_: Any, **__: Any) -> bytes:
        return as_text(data).encode()


LOG_RENDERERS = [JSONRenderer, TextRenderer]


class JobViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet[Job]):
    """Everything that takes time."""

    serializer_class = JobSerializer
    lookup_url_kwarg = "job_id"
    queryset = Job.objects.select_related("owner")
    filter_fields = {"kind": "kind", "state": "state", "owner": "owner__username"}
    search_fields = ["id"]
    ordering_fields = {"created_at": "created_at", "priority": "priority"}
    ordering = "-created_at"

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, job_id: str) -> Response:
        """Cancel a job; 409 when it has ended."""
        job = self.get_object()
        if not can_change(request.user, job):
            raise Forbidden(f"{job.pk} belongs to somebody else; its owner or an admin may.")
        services.cancel_job(job)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(parameters=[LogQuerySerializer], responses=LOG_RESPONSES)
    @action(detail=True, renderer_classes=LOG_RENDERERS)
    def logs(self, request: Request, job_id: str) -> Response:
        """What the job said of itself; `Accept: text/plain` for text."""
        return answer_log(request, self.get_object().pk)


def answer_log(request: Request, job_id: str) -> Response:
    """A page of the log as JSON, or as text for those who name it."""
    asked = LogQuerySerializer(data=request.query_params)
    asked.is_valid(raise_exception=True)
    lines = read_log(job_id, **asked.validated_data)
    if isinstance(request.accepted_renderer, TextRenderer):
        return Response(lines)
    rows = LogLineSerializer(lines, many=True).data
    after = rows[-1]["id"] if rows else asked.validated_data["after"]
    return Response({"results": rows, "next_after": after})
