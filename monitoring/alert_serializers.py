"""Alerts and their rules as JSON."""

from typing import Any, ClassVar

from rest_framework import serializers

from mlserver.api.permissions import ADMIN, has_role
from mlserver.lib.webhooks import signing_secret
from monitoring.models import Alert, AlertDelivery, AlertRule


class AlertSerializer(serializers.ModelSerializer[Alert]):
    rule = serializers.IntegerField(source="rule_id", allow_null=True)

    class Meta:
        model = Alert
        fields = [
            "id",
            "rule",
            "name",
            "severity",
            "state",
            "host",
            "subject",
            "value",
            "message",
            "since",
            "opened_at",
            "closed_at",
            "acknowledged_by",
            "acknowledged_at",
        ]
        read_only_fields = fields


class AlertRuleSerializer(serializers.ModelSerializer[AlertRule]):
    """Choices and ranges; what concerns several fields is checked by the service."""

    for_seconds = serializers.IntegerField(min_value=0, max_value=7 * 24 * 3600, default=60)
    signing_secret = serializers.SerializerMethodField(
        help_text="checks the signature of the webhook's messages; null for all but admins"
    )

    class Meta:
        model = AlertRule
        fields = [
            "id",
            "name",
            "metric",
            "comparison",
            "threshold",
            "clear_threshold",
            "for_seconds",
            "severity",
            "target",
            "webhook_url",
            "action",
            "is_enabled",
            "muted_until",
            "signing_secret",
        ]
        read_only_fields = ["id", "signing_secret", "muted_until"]
        # A name that is taken is a conflict (409), which the service says.
        extra_kwargs: ClassVar[dict[str, Any]] = {"name": {"validators": []}}

    def get_signing_secret(self, rule: AlertRule) -> str | None:
        request = self.context.get("request")
        if not rule.webhook_url or request is None or not has_role(request.user, ADMIN):
            return None
        return signing_secret(rule.webhook_url)


class MuteSerializer(serializers.Serializer[Any]):
    until = serializers.DateTimeField(allow_null=True, help_text="null: not muted any more")


class AlertDeliverySerializer(serializers.ModelSerializer[AlertDelivery]):
    class Meta:
        model = AlertDelivery
        fields = ["id", "message_id", "url", "status", "attempts", "error", "created_at", "next_at"]
        read_only_fields = fields


class AlertDeliveriesSerializer(serializers.Serializer[Any]):
    results = AlertDeliverySerializer(many=True)
