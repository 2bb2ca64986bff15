"""The shapes of keys, tokens, attempts and audit rows. No hash leaves the server, a key once."""

from typing import Any

from django.contrib.auth.models import User
from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from accounts.models import ApiKey, AuditEntry, AuthLog, Role
from accounts.services import LONGEST_OVERLAP
from mlserver.api.areas import AREAS


class KeySerializer(serializers.ModelSerializer[ApiKey]):
    user = serializers.CharField(source="user.username", read_only=True)
    is_usable = serializers.BooleanField(read_only=True)
    scopes = serializers.ListField(child=serializers.CharField(), read_only=True)
    allowed_networks = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta:
        model = ApiKey
        fields = [
            "id",
            "name",
            "user",
            "prefix",
            "role",
            "scopes",
            "allowed_networks",
            "rate_limit_requests",
            "rate_limit_period",
            "is_usable",
            "is_from_environment",
            "created_at",
            "expires_at",
            "revoked_at",
            "previous_until",
            "last_used_at",
            "last_used_address",
        ]
        read_only_fields = fields


class NewKeySerializer(KeySerializer):
    key = serializers.CharField(help_text="Shown now and never again.")

    class Meta(KeySerializer.Meta):
        fields = [*KeySerializer.Meta.fields, "key"]
        read_only_fields = fields


class StrictSerializer(serializers.Serializer[Any]):
    """Unknown fields are refused: a misspelt `expires_at` would make a key for ever."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := sorted(set(data) - set(self.fields))):
            known = ", ".join(self.fields)
            raise serializers.ValidationError(
                dict.fromkeys(unknown, f"Unknown field; known are {known}."), code="unknown"
            )
        return super().to_internal_value(data)


class Narrowing(StrictSerializer):
    """What makes a key less than its role."""

    scopes = serializers.ListField(
        child=serializers.CharField(max_length=32),
        required=False,
        max_length=len(AREAS),
        help_text=f"of {', '.join(AREAS)}; empty: everything that the role allows",
    )
    allowed_networks = serializers.ListField(
        child=serializers.CharField(max_length=64),
        required=False,
        help_text="such as 10.0.0.0/8 or 192.168.1.7; empty: from everywhere",
    )
    rate_limit_requests = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, help_text="admins only; null: the usual"
    )
    rate_limit_period = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, help_text="seconds, with the former"
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        names = ("rate_limit_requests", "rate_limit_period")
        given = [attrs.pop(name) for name in names if name in attrs]
        if len(given) == 1 or (given and (given[0] is None) != (given[1] is None)):
            raise serializers.ValidationError({names[0]: "Give both, or null for both."})
        if given:
            attrs["rate_limit"] = None if given[0] is None else tuple(given)
        return attrs


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "for a notebook",
            value={"name": "notebook", "role": "operator", "expires_at": "2030-01-01T00:00:00Z"},
            request_only=True,
        )
    ]
)
class KeyRequestSerializer(Narrowing):
    name = serializers.CharField(max_length=100)
    role = serializers.ChoiceField(choices=Role.choices, default=Role.OPERATOR)
    expires_at = serializers.DateTimeField(
        default=None, allow_null=True, help_text="null: until it is revoked"
    )
    user = serializers.SlugRelatedField(
        slug_field="username",
        queryset=User.objects.filter(is_active=True),
        required=False,
        help_text="whose key it is; admins only, default yourself",
    )


class KeyChangeSerializer(Narrowing):
    name = serializers.CharField(max_length=100, required=False)
    role = serializers.ChoiceField(choices=Role.choices, required=False)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)


class RotationSerializer(StrictSerializer):
    overlap_seconds = serializers.IntegerField(
        default=0,
        min_value=0,
        max_value=LONGEST_OVERLAP,
        help_text="how long the old secret opens beside the new one",
    )


class SignInSerializer(StrictSerializer):
    username = serializers.CharField(max_length=150)
    password = serializers.CharField(max_length=4096, trim_whitespace=False)


class RefreshSerializer(StrictSerializer):
    refresh = serializers.CharField(max_length=4096)


class TokenSerializer(StrictSerializer):
    token = serializers.CharField(max_length=4096)


class PairSerializer(serializers.Serializer[Any]):
    access = serializers.CharField(help_text="send it as `Authorization: Bearer <access>`")
    refresh = serializers.CharField(help_text="for `auth/token/refresh`, once")
    token_type = serializers.CharField()
    expires_in = serializers.IntegerField(help_text="seconds that `access` lives")


class AttemptSerializer(serializers.ModelSerializer[AuthLog]):
    user = serializers.CharField(source="user.username", default=None, read_only=True)

    class Meta:
        model = AuthLog
        fields = [
            "id",
            "timestamp",
            "user",
            "prefix",
            "success",
            "reason",
            "method",
            "endpoint",
            "address",
            "count",
        ]
        read_only_fields = fields


class MeSerializer(serializers.Serializer[Any]):
    username = serializers.CharField()
    role = serializers.ChoiceField(choices=Role.choices, help_text="what counts for this request")
    key = KeySerializer(allow_null=True, help_text="null: signed in by a browser")


class AuditSerializer(serializers.ModelSerializer[AuditEntry]):
    user = serializers.CharField(source="username", read_only=True)

    class Meta:
        model = AuditEntry
        fields = [
            "id",
            "timestamp",
            "user",
            "action",
            "object_type",
            "object_id",
            "before",
            "after",
            "how",
            "key_prefix",
            "address",
            "request_id",
        ]
        read_only_fields = fields
