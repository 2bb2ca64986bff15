"""REST of keys, tokens, the authentication log and the audit: parse, call a service, answer."""

from typing import Any, cast

from django.contrib.auth.models import User
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from accounts import access, services, tokens
from accounts.authentication import BEARER
from accounts.models import ApiKey, AuditEntry, AuthLog
from accounts.serializers import (
    AttemptSerializer,
    AuditSerializer,
    KeyChangeSerializer,
    KeyRequestSerializer,
    KeySerializer,
    MeSerializer,
    NewKeySerializer,
    PairSerializer,
    RefreshSerializer,
    RotationSerializer,
    SignInSerializer,
    TokenSerializer,
)
from mlserver.api.permissions import ADMIN, has_role, role_of
from mlserver.lib.errors import Forbidden


class MeView(APIView):
    @extend_schema(summary="Who am I, and what may I do", responses=MeSerializer)
    def get(self, request: Request) -> Response:
        me = {
            "username": request.user.get_username(),
            "role": role_of(request.user),
            "key": request.auth if isinstance(request.auth, ApiKey) else None,
        }
        return Response(MeSerializer(me).data)


class KeyViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet[ApiKey]):
    """API keys: one's own, for an admin everyone's. The key itself is shown once, when made."""

    serializer_class = KeySerializer
    queryset = ApiKey.objects.all()
    lookup_value_regex = "[0-9]{1,18}"
    filter_fields = {"user": "user__username", "role": "role", "prefix": "prefix"}
    search_fields = ["name", "prefix"]
    ordering_fields = ["created_at", "name", "last_used_at", "expires_at"]

    def get_queryset(self) -> QuerySet[ApiKey]:
        return access.visible_keys(self.request.user)

    @extend_schema(
        summary="Make a key", request=KeyRequestSerializer, responses={201: NewKeySerializer}
    )
    def create(self, request: Request) -> Response:
        asked = _validated(KeyRequestSerializer(data=request.data))
        user = asked.pop("user", request.user)
        if user != request.user and not has_role(request.user, ADMIN):
            raise Forbidden("Only an admin makes keys for others.")
        key, raw = services.create_key(user=user, by=_me(request), **asked)
        return _shown_once(key, raw, status.HTTP_201_CREATED)

    @extend_schema(
        summary="Change name, role, expiry, scopes, networks or rate limit",
        request=KeyChangeSerializer,
        responses=KeySerializer,
    )
    def partial_update(self, request: Request, pk: str) -> Response:
        key = self._changeable()
        asked = _validated(KeyChangeSerializer(data=request.data))
        never = "expires_at" in asked and asked["expires_at"] is None
        usual = "rate_limit" in asked and asked["rate_limit"] is None
        services.change_key(
            key, by=_me(request), never_expires=never, usual_rate_limit=usual, **asked
        )
        return Response(KeySerializer(key).data)

    @extend_schema(summary="Revoke, at once and for ever", responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        services.revoke_key(self._changeable(), _me(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(
        summary="Give the key a new secret; the old one stops at once, or after an overlap",
        request=RotationSerializer,
        responses=NewKeySerializer,
    )
    @action(detail=True, methods=["post"])
    def rotate(self, request: Request, pk: str) -> Response:
        key = self.get_object()
        if not access.can_rotate(request.user, key):
            raise Forbidden("Only its owner can give a key a new secret; an admin can revoke it.")
        asked = _validated(RotationSerializer(data=request.data or {}))
        return _shown_once(*services.rotate_key(key, by=_me(request), **asked), status.HTTP_200_OK)

    def _changeable(self) -> ApiKey:
        key = self.get_object()
        if not access.can_change(self.request.user, key):
            raise Forbidden("This key belongs to somebody else; its owner or an admin may.")
        return key


class AttemptViewSet(mixins.ListModelMixin, GenericViewSet[AuthLog]):
    """Every attempt to come in: one's own, for an admin everyone's."""

    serializer_class = AttemptSerializer
    queryset = AuthLog.objects.all()
    filter_fields = {"success": "success", "user": "user__username", "prefix": "prefix"}
    search_fields = ["endpoint", "reason"]
    ordering_fields = ["timestamp"]

    def get_queryset(self) -> QuerySet[AuthLog]:
        return access.visible_attempts(self.request.user)


class AuditViewSet(mixins.ListModelMixin, GenericViewSet[AuditEntry]):
    """Every change: who, what, from what to what. Of keys and people admins see all, others
    their own."""

    serializer_class = AuditSerializer
    queryset = AuditEntry.objects.all()
    filter_fields = {
        "user": "username",
        "action": "action",
        "object_type": "object_type",
        "object_id": "object_id",
        "how": "how",
        "request_id": "request_id",
    }
    search_fields = ["action", "object_id", "username"]
    ordering_fields = ["timestamp"]

    def get_queryset(self) -> QuerySet[AuditEntry]:
        return access.visible_entries(self.request.user)


class TokenView(APIView):
    """Looks at no key: what counts is in the body."""

    authentication_classes = ()
    permission_classes = ()

    def get_authenticate_header(self, request: Request) -> str:
        """Without one DRF would answer 403 instead of 401."""
        return BEARER


class SignInView(TokenView):
    @extend_schema(
        operation_id="create_token",
        summary="Tokens for a name and a password",
        request=SignInSerializer,
        responses=PairSerializer,
        auth=[],
    )
    def post(self, request: Request) -> Response:
        asked = _validated(SignInSerializer(data=request.data))
        return _pair(tokens.sign_in(request._request, asked["username"], asked["password"]))


class RefreshView(TokenView):
    @extend_schema(
        operation_id="refresh_token",
        summary="A new pair for a refresh token, which is then spent",
        request=RefreshSerializer,
        responses=PairSerializer,
        auth=[],
    )
    def post(self, request: Request) -> Response:
        asked = _validated(RefreshSerializer(data=request.data))
        return _pair(tokens.refresh(request._request, asked["refresh"]))


class VerifyView(TokenView):
    @extend_schema(
        operation_id="verify_token",
        summary="Whether a token would be accepted now",
        request=TokenSerializer,
        responses=inline_serializer("TokenVerdict", {"valid": serializers.BooleanField()}),
        auth=[],
    )
    def post(self, request: Request) -> Response:
        asked = _validated(TokenSerializer(data=request.data))
        if not tokens.is_valid(asked["token"]):
            raise AuthenticationFailed(tokens.REFUSED_TOKEN)
        return Response({"valid": True})


def _pair(pair: tokens.Pair) -> Response:
    body = {
        "access": pair.access,
        "refresh": pair.refresh,
        "token_type": "Bearer",
        "expires_in": pair.expires_in,
    }
    return Response(body, headers={"Cache-Control": "no-store"})


def _me(request: Request) -> User:
    return cast(User, request.user)  # RolePermission has refused everyone else


def _validated(serializer: Any) -> dict[str, Any]:
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


def _shown_once(key: ApiKey, raw: str, status_code: int) -> Response:
    body = {**KeySerializer(key).data, "key": raw}
    return Response(body, status=status_code, headers={"Cache-Control": "no-store"})
