"""REST of alerts (operators acknowledge and mute) and of their rules (admins change them)."""

from typing import cast

from django.contrib.auth.models import User
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from mlserver.api.permissions import ADMIN, IsOperator
from monitoring import alerts
from monitoring.alert_rules import delete_rule, save_rule, send_test
from monitoring.alert_serializers import (
    AlertDeliveriesSerializer,
    AlertDeliverySerializer,
    AlertRuleSerializer,
    AlertSerializer,
    MuteSerializer,
)
from monitoring.models import Alert, AlertRule

RULE_EXAMPLE = OpenApiExample(
    "disk",
    value={
        "name": "Disk nearly full, stop taking work",
        "metric": "disk_percent",
        "threshold": 95,
        "clear_threshold": 92,
        "for_seconds": 60,
        "severity": "critical",
        "action": "pause_queue",
    },
    request_only=True,
)


class AlertViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet[Alert]):
    """What somebody should know of, and what it was."""

    serializer_class = AlertSerializer
    queryset = Alert.objects.shown()
    lookup_url_kwarg = "alert_id"
    lookup_value_regex = "[0-9]{1,18}"
    filter_fields = {"state": "state", "severity": "severity", "host": "host", "subject": "subject"}
    search_fields = ["name", "message"]
    ordering_fields = {"opened_at": "opened_at", "closed_at": "closed_at"}
    ordering = "-opened_at"

    @extend_schema(request=None, responses=AlertSerializer)
    @action(detail=True, methods=["post"])
    def acknowledge(self, request: Request, alert_id: str) -> Response:
        """Say that somebody looks after it; it calls no more."""
        alert = alerts.acknowledge(self.get_object(), _user(request).username)
        return Response(AlertSerializer(alert).data)


class AlertRuleViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet[AlertRule]):
    """When somebody wants to know, and what is done then."""

    write_role = ADMIN
    serializer_class = AlertRuleSerializer
    queryset = AlertRule.objects.all()
    lookup_url_kwarg = "rule_id"
    lookup_value_regex = "[0-9]{1,18}"
    filter_fields = {"metric": "metric", "is_enabled": "is_enabled", "severity": "severity"}
    search_fields = ["name"]
    ordering_fields = {"name": "name", "metric": "metric"}
    ordering = "metric"

    @extend_schema(examples=[RULE_EXAMPLE], responses={201: AlertRuleSerializer})
    def create(self, request: Request) -> Response:
        """Add a rule. It holds from the next sample on."""
        asked = self.get_serializer(data=request.data)
        asked.is_valid(raise_exception=True)
        rule = save_rule(AlertRule(), **asked.validated_data)
        return Response(self.get_serializer(rule).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses=AlertRuleSerializer)
    def partial_update(self, request: Request, rule_id: str) -> Response:
        """Change a rule; switched off, it closes its alerts."""
        rule = self.get_object()
        asked = self.get_serializer(rule, data=request.data, partial=True)
        asked.is_valid(raise_exception=True)
        return Response(self.get_serializer(save_rule(rule, **asked.validated_data)).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, rule_id: str) -> Response:
        """Remove a rule. What it told stays in the history."""
        delete_rule(self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=MuteSerializer, responses=AlertRuleSerializer)
    @action(detail=True, methods=["post"], permission_classes=[IsOperator])
    def mute(self, request: Request, rule_id: str) -> Response:
        """No message, no action and no count until a time; `null` ends that."""
        asked = MuteSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        rule = alerts.mute(self.get_object(), asked.validated_data["until"])
        return Response(self.get_serializer(rule).data)

    @extend_schema(request=None, responses={202: AlertDeliverySerializer})
    @action(detail=True, methods=["post"])
    def test(self, request: Request, rule_id: str) -> Response:
        """Send a test message to the rule's webhook."""
        delivery = send_test(self.get_object())
        return Response(AlertDeliverySerializer(delivery).data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(responses=AlertDeliveriesSerializer, filters=False)
    @action(detail=True)
    def deliveries(self, request: Request, rule_id: str) -> Response:
        """The newest messages of this rule, and whether they arrived."""
        newest = {"results": self.get_object().deliveries.all()[:100]}
        return Response(AlertDeliveriesSerializer(newest).data)


def _user(request: Request) -> User:
    return cast(User, request.user)  # the permission class let nobody else through
