"""What this server is, the OpenAPI document, Swagger UI and Redoc. None of them needs a key."""

from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from csp.constants import SELF, UNSAFE_INLINE
from csp.decorators import csp_update
from django.contrib.staticfiles import finders
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from drf_spectacular.utils import OpenApiExample, extend_schema, inline_serializer
from drf_spectacular.views import (
    SpectacularJSONAPIView,
    SpectacularRedocView,
    SpectacularSwaggerSplitView,
)
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from mlserver.api import openapi  # noqa: F401  (drf-spectacular must know the key schemes)
from mlserver.api.routing import path_either
from mlserver.lib.errors import NotFound
from mlserver.version import VERSION

REDOC_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"


def describe_server() -> dict[str, Any]:
    return {
        "name": "mlserver",
        "version": VERSION,
        "status": "running",
        "docs": "/docs",
        "redoc": "/redoc",
        "openapi": "/openapi.json",
        "health": "/health",
        "metrics": "/metrics",
    }


class RootView(APIView):
    """Answers everyone; a program learns here where the rest is."""

    authentication_classes = ()
    permission_classes = ()

    @extend_schema(
        operation_id="describe_server",
        tags=["server"],
        summary="What this server is",
        auth=[],
        responses=inline_serializer(
            "Server", {name: serializers.CharField() for name in describe_server()}
        ),
        examples=[OpenApiExample("server", value=describe_server(), response_only=True)],
    )
    def get(self, request: Request) -> Response:
        return Response(describe_server())


class OpenApiView(SpectacularJSONAPIView):
    authentication_classes = ()
    permission_classes = ()


class DocsView(SpectacularSwaggerSplitView):
    """Swagger UI from this machine, without inline style or script: the strict policy stays."""

    authentication_classes = ()
    permission_classes = ()
    template_name = "docs.html"
    url = "/openapi.json"


@method_decorator(csp_update({"style-src": [SELF, UNSAFE_INLINE]}), name="dispatch")
class RedocView(SpectacularRedocView):
    """Redoc writes its styles while it draws; nothing else of the strict policy is loosened."""

    authentication_classes = ()
    permission_classes = ()
    template_name = "redoc.html"
    url = "/openapi.json"


def redoc_bundle(request: HttpRequest) -> HttpResponse:
    answer = HttpResponse(_read_bundle(), content_type="text/javascript; charset=utf-8")
    answer["Cache-Control"] = "public, max-age=86400"
    return answer


@cache
def _read_bundle() -> bytes:
    """Redoc without its only picture from elsewhere: nothing here asks another host."""
    path = finders.find("drf_spectacular_sidecar/redoc/bundles/redoc.standalone.js")
    if not isinstance(path, str):
        raise NotFound("Redoc is not installed: drf-spectacular-sidecar brings it along.")
    return Path(path).read_bytes().replace(REDOC_LOGO, b"data:,")


def unknown_endpoint(request: HttpRequest, rest: str = "") -> NoReturn:
    """Last of all under /api: DEBUG would answer a program with a page about routes."""
    raise NotFound(f"There is no endpoint {request.path}; /openapi.json lists them all.")


api_patterns: list[URLPattern] = []
page_patterns: list[URLPattern] = [
    path_either("api/v1", RootView.as_view(), name="api-root"),
    path_either("openapi.json", OpenApiView.as_view(), name="openapi"),
    path_either("docs", DocsView.as_view(), name="docs"),
    path_either("redoc", RedocView.as_view(), name="redoc"),
    path("redoc/redoc.js", redoc_bundle, name="redoc-bundle"),
    path("api/<path:rest>", unknown_endpoint),
]
