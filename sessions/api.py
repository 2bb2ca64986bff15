"""REST of training sessions: parse, call a service, answer."""

from typing import Any, cast

from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from datasets.services import find_version
from jobs.api import LOG_RENDERERS, LOG_RESPONSES, answer_log
from jobs.holds import hold_queue, lift_holds, list_holds
from jobs.serializers import HoldSerializer, LogQuerySerializer
from jobs.services import queue_order
from ml.estimate import Steps
from mlserver.api.permissions import IsAdmin
from mlserver.lib.downloads import file_response
from mlserver.lib.errors import Malformed
from sessions import services
from sessions.diagnosis import describe_diagnosis
from sessions.dry_run import dry_run, require_seat
from sessions.files import find_artifact, list_checkpoints
from sessions.hardware import read_hardware
from sessions.metrics import list_keys, read_series
from sessions.models import EpochMetric, TrainingSession
from sessions.preflight import preflight
from sessions.preflight_serializers import DryRunField, PreflightSerializer, preflight_schema
from sessions.serializers import (
    ArtifactSerializer,
    CheckpointSerializer,
    DiagnosisSerializer,
    EpochMetricSerializer,
    HardwareSerializer,
    QueueSerializer,
    SeriesAnswerSerializer,
    SeriesQuerySerializer,
    SessionPatchSerializer,
    SessionSerializer,
    StartFields,
    clone_schema,
    start_schema,
)

START_EXAMPLE = OpenApiExample(
    "digits",
    value={"dataset": "digits", "architecture": "cnn", "epochs": 12, "batch_size": 64, "seed": 3},
    request_only=True,
)

CLONE_EXAMPLE = OpenApiExample("a smaller step", value={"learning_rate": 0.0003}, request_only=True)


class SessionViewSet(
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    GenericViewSet[TrainingSession],
):
    """Training sessions: start, follow, steer."""

    serializer_class = SessionSerializer
    lookup_url_kwarg = "session_id"
    queryset = TrainingSession.objects.select_related(
        "job__owner", "dataset_version__dataset", "produced__model"
    )
    filter_fields = {
        "state": "job__state",
        "recipe": "recipe",
        "owner": "job__owner__username",
        "dataset": "dataset_version__dataset__name",
        "cloned_from": "cloned_from",
    }
    search_fields = ["job__id", "name"]
    ordering_fields = {
        "created_at": "job__created_at",
        "started_at": "job__started_at",
        "finished_at": "job__finished_at",
        "priority": "job__priority",
        "name": "name",
    }
    ordering = "-created_at"

    @extend_schema(
        summary="Start a training session",
        request={"application/json": start_schema()},
        responses={201: SessionSerializer},
        examples=[START_EXAMPLE],
    )
    def create(self, request: Request) -> Response:
        config, around = _split(request.data)
        session = services.start_session(owner=_user(request), config=config, **around)
        return self._answer(session, status.HTTP_201_CREATED)

    @extend_schema(
        summary="What a training would take, without starting it",
        request={"application/json": preflight_schema()},
        responses=PreflightSerializer,
        examples=[START_EXAMPLE],
        filters=False,
    )
    @action(detail=False, methods=["post"], pagination_class=None)
    def preflight(self, request: Request) -> Response:
        """Whether it fits, how long it takes, where it would stand in the queue; samples as the
        model will see them. `dry_run` really trains a few steps and measures them; 409 while
        every seat is taken."""
        body = _object(request.data)
        wants_run = DryRunField(data={"dry_run": body.pop("dry_run", False)})
        wants_run.is_valid(raise_exception=True)
        if wants_run.validated_data["dry_run"]:
            require_seat()
        config, around = _split(body)
        report = preflight(config, owner=_user(request), **around)
        if wants_run.validated_data["dry_run"]:
            version = find_version(report["dataset"]["name"])
            report["dry_run"] = dry_run(report["config"], version, Steps(**report["steps"]))
        return Response(report)

    @extend_schema(request=SessionPatchSerializer, responses=SessionSerializer)
    def partial_update(self, request: Request, session_id: str) -> Response:
        """Rename a session, or move it in the queue."""
        session = self.get_object()
        changes = SessionPatchSerializer(data=_object(request.data))
        changes.is_valid(raise_exception=True)
        if "name" in changes.validated_data:
            services.rename_session(session, _user(request), changes.validated_data["name"])
        if "priority" in changes.validated_data:
            services.set_priority(session, _user(request), changes.validated_data["priority"])
        return self._answer(session)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, session_id: str) -> Response:
        """Forget a session that has ended, with its run directory. Its model stays."""
        services.delete_session(self.get_object(), _user(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=None, responses=SessionSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, session_id: str) -> Response:
        """End a session; one that runs frees the GPU within seconds."""
        return self._answer(services.cancel_session(self.get_object(), _user(request)))

    @extend_schema(request=None, responses=SessionSerializer)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, session_id: str) -> Response:
        """Save a checkpoint and end the process; `resume` continues exactly there."""
        return self._answer(services.pause_session(self.get_object(), _user(request)))

    @extend_schema(request=None, responses=SessionSerializer)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, session_id: str) -> Response:
        """Put a paused session back into the queue."""
        return self._answer(services.resume_session(self.get_object(), _user(request)))

    @extend_schema(
        request={"application/json": clone_schema()},
        responses={201: SessionSerializer},
        examples=[CLONE_EXAMPLE],
    )
    @action(detail=True, methods=["post"])
    def clone(self, request: Request, session_id: str) -> Response:
        """Start a session with this one's configuration, but for the fields of the body."""
        source = self.get_object()
        changes, around = _split(request.data)
        session = services.clone_session(source, owner=_user(request), changes=changes, **around)
        return self._answer(session, status.HTTP_201_CREATED)

    @extend_schema(responses=EpochMetricSerializer(many=True))
    @action(detail=True)
    def metrics(self, request: Request, session_id: str) -> Response:
        """One entry an epoch, in order; `?latest=1` for the newest alone."""
        epochs: QuerySet[EpochMetric] = self.get_object().epoch_metrics.order_by("epoch")
        if request.query_params.get("latest") in ("1", "true"):
            epochs = epochs.order_by("-epoch")[:1]
        rows = EpochMetricSerializer(epochs, many=True).data
        return Response({"results": rows, "total": len(rows)})

    @extend_schema(parameters=[SeriesQuerySerializer], responses=SeriesAnswerSerializer)
    @action(detail=True)
    def series(self, request: Request, session_id: str) -> Response:
        """The dense series (loss per step, learning rate …), reduced to min/mean/max buckets."""
        session = self.get_object()
        asked = SeriesQuerySerializer(data=request.query_params)
        asked.is_valid(raise_exception=True)
        named = [key for key in asked.validated_data.get("keys", "").split(",") if key]
        found = {
            key: read_series(
                session,
                key,
                after=asked.validated_data["after"],
                max_points=asked.validated_data["max_points"],
            )
            for key in (named or list_keys(session))
        }
        return Response({"series": {key: _as_json(one) for key, one in found.items()}})

    @extend_schema(responses=DiagnosisSerializer, filters=False)
    @action(detail=True, pagination_class=None)
    def diagnosis(self, request: Request, session_id: str) -> Response:
        """What stands out of what was recorded, as sentences with their numbers."""
        return Response(describe_diagnosis(self.get_object()))

    @extend_schema(responses=HardwareSerializer, filters=False)
    @action(detail=True, pagination_class=None)
    def hardware(self, request: Request, session_id: str) -> Response:
        """Readings of the machine, and of the GPU it trains on, for the time it ran."""
        return Response(read_hardware(self.get_object()))

    @extend_schema(parameters=[LogQuerySerializer], responses=LOG_RESPONSES)
    @action(detail=True, renderer_classes=LOG_RENDERERS)
    def logs(self, request: Request, session_id: str) -> Response:
        """What the session said of itself; `Accept: text/plain` for text."""
        return answer_log(request, self.get_object().job_id)

    @extend_schema(responses=ArtifactSerializer(many=True), filters=False)
    @action(detail=True, pagination_class=None)
    def artifacts(self, request: Request, session_id: str) -> Response:
        """The files that the session left: configuration, result, journal, raw output."""
        rows = ArtifactSerializer(self.get_object().artifacts.order_by("name"), many=True).data
        return Response({"results": rows, "total": len(rows)})

    @extend_schema(operation_id="sessions_artifact_download", responses=OpenApiTypes.BINARY)
    @action(detail=True, url_path=r"artifacts/(?P<name>[^?]+?)")
    def artifact(self, request: Request, session_id: str, name: str) -> HttpResponseBase:
        """One of these files; a `Range` continues a broken download."""
        artifact, path = find_artifact(self.get_object(), name)
        return file_response(request, path, filename=path.name, sha256=artifact.sha256)

    @extend_schema(responses=CheckpointSerializer(many=True), filters=False)
    @action(detail=True, pagination_class=None)
    def checkpoints(self, request: Request, session_id: str) -> Response:
        """The checkpoints from which the session could go on, oldest first."""
        found = list_checkpoints(self.get_object())
        return Response({"results": found, "total": len(found)})

    @extend_schema(responses=QueueSerializer, filters=False)
    @action(detail=False, pagination_class=None)
    def queue(self, request: Request) -> Response:
        """What waits, in the order in which it will start; `held` says what keeps it back."""
        order = queue_order("train")
        rows = self.get_queryset().in_bulk(order)
        waiting = [rows[job_id] for job_id in order if job_id in rows]
        answer = {"results": waiting, "total": len(waiting), "held": list_holds("train")}
        return Response(QueueSerializer(answer).data)

    @extend_schema(request=HoldSerializer, responses={201: HoldSerializer}, filters=False)
    @action(detail=False, methods=["post"], url_path="queue/hold", permission_classes=[IsAdmin])
    def hold(self, request: Request) -> Response:
        """Let nothing start any more, for everybody; what runs goes on. Admins only."""
        asked = HoldSerializer(data=_object(request.data))
        asked.is_valid(raise_exception=True)
        hold = hold_queue("train", by=_user(request).username, **asked.validated_data)
        return Response(HoldSerializer(hold).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=None, responses={204: None}, filters=False)
    @action(detail=False, methods=["post"], url_path="queue/resume", permission_classes=[IsAdmin])
    def lift(self, request: Request) -> Response:
        """Lift every hold of the queue. Admins only."""
        lift_holds("train")
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _answer(self, session: TrainingSession, code: int = status.HTTP_200_OK) -> Response:
        fresh = self.get_queryset().get(pk=session.pk)
        return Response(SessionSerializer(fresh).data, status=code)


def _user(request: Request) -> User:
    return cast(User, request.user)  # the permission class let nobody else through


def _split(data: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The training configuration, and what surrounds it where it was given."""
    config = _object(data)
    around = StartFields(data={k: config.pop(k) for k in ("name", "priority") if k in config})
    around.is_valid(raise_exception=True)
    return config, around.validated_data


def _object(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise Malformed('The body must be a JSON object, like {"dataset": "digits"}.')
    return dict(data)


def _as_json(series: Any) -> dict[str, Any]:
    return {
        "steps": series.steps,
        "times": series.times,
        "values": series.values,
        "min": series.minimum,
        "max": series.maximum,
    }
