"""A little server of its own: every way a view can answer or fail, and the doors of accounts."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import include, path
from rest_framework import serializers
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

import accounts.urls
from accounts.models import AuthLog
from accounts.serializers import AttemptSerializer
from mlserver.api import root
from mlserver.api.permissions import IsAdmin, IsOperator, IsViewer
from mlserver.api.routing import path_either
from mlserver.lib.errors import Conflict, FieldError, Invalid, NoSpace, Unavailable


class Inner(serializers.Serializer[Any]):
    epochs = serializers.IntegerField(min_value=1)


class Outer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=20)
    config = Inner(required=False)
    items = serializers.ListField(child=serializers.IntegerField(), required=False)
    password = serializers.CharField(required=False, max_length=3)


class Echo(APIView):
    def get(self, request: Request, **kwargs: Any) -> Response:
        return Response({"got": kwargs})

    def post(self, request: Request) -> Response:
        return Response(request.data)


class Checked(APIView):
    def post(self, request: Request) -> Response:
        asked = Outer(data=request.data)
        asked.is_valid(raise_exception=True)
        return Response(asked.validated_data)


RAISED: dict[str, Exception] = {
    "conflict": Conflict("It runs already.", code="already_running"),
    "invalid": Invalid(
        "epochs must be at least 1, got 0.",
        errors=[FieldError(field="epochs", message="too few", code="low", value=0)],
    ),
    "unavailable": Unavailable("Not now."),
    "no-space": NoSpace("The disk is full."),
    "404": Http404("secret path"),
    "403": PermissionDenied(),
    "locked": OperationalError("database is locked"),
    "bug": RuntimeError("the password is hunter2"),
}


class Raising(APIView):
    def get(self, request: Request, what: str) -> Response:
        raise RAISED[what]


def plain_raising(request: HttpRequest, what: str) -> HttpResponse:
    raise RAISED[what]


class Attempts(ListAPIView[AuthLog]):
    queryset = AuthLog.objects.all()
    serializer_class = AttemptSerializer
    filter_fields = {"success": "success", "user": "user__username", "number": "id"}
    search_fields = ["endpoint"]
    ordering_fields = ["timestamp", "endpoint"]
    ordering = "-endpoint"


class ForViewers(Echo):
    permission_classes = [IsViewer]


class ForOperators(Echo):
    permission_classes = [IsOperator]


class ForAdmins(Echo):
    permission_classes = [IsAdmin]


class OpenToWrite(Echo):
    write_role = "viewer"


api_patterns = [
    path_either("echo", Echo.as_view()),
    path_either("echo/<str:name>", Echo.as_view(), name="echo-name"),
    path_either("checked", Checked.as_view()),
    path_either("raise/<str:what>", Raising.as_view()),
    path_either("attempts", Attempts.as_view()),
    path_either("for-viewers", ForViewers.as_view()),
    path_either("for-operators", ForOperators.as_view()),
    path_either("for-admins", ForAdmins.as_view()),
    path_either("open-to-write", OpenToWrite.as_view()),
]

urlpatterns = [
    path("api/v1/", include([*root.api_patterns, *accounts.urls.api_patterns, *api_patterns])),
    path_either("plain/<str:what>", plain_raising),
    *root.page_patterns,
]
handler400 = "mlserver.api.errors.bad_request"
handler403 = "mlserver.api.errors.forbidden"
handler404 = "mlserver.api.errors.not_found"
handler500 = "mlserver.api.errors.server_error"
