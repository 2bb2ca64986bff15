"""REST of uploads in pieces: begin, ask how far it is, send on, give up.

What is complete is taken in by name: `POST /api/v1/datasets/ {"upload": id}`, and so for models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from mlserver.api.routing import path_either
from mlserver.lib import partial
from mlserver.lib.errors import FieldError, Invalid

OFFSET = "Upload-Offset"
ID = OpenApiParameter("id", location="path", description="As POST /api/v1/uploads/ gave it.")


class PieceParser(BaseParser):
    """Plain bytes. Their number is limited before they come here (mlserver.bodies)."""

    media_type = "application/octet-stream"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        return stream.read()


class NewUploadSerializer(serializers.Serializer[Any]):
    filename = serializers.CharField(max_length=255)
    size_bytes = serializers.IntegerField(min_value=0, max_value=2**53)


class PartialUploadSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    filename = serializers.CharField()
    size_bytes = serializers.IntegerField()
    offset = serializers.IntegerField(help_text="how many bytes are here; the next piece's place")
    is_complete = serializers.BooleanField()
    piece_bytes = serializers.SerializerMethodField(help_text="the most that a piece may have")

    def get_piece_bytes(self, upload: Any) -> int:
        return partial.PIECE_BYTES


class UploadsView(APIView):
    @extend_schema(
        summary="Begin an upload in pieces",
        tags=["uploads"],
        request=NewUploadSerializer,
        responses={201: PartialUploadSerializer},
    )
    def post(self, request: Request) -> Response:
        """For files that are large, or lines that break. What is not finished within a day of its
        last piece is removed."""
        asked = NewUploadSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        upload = partial.begin(_person(request), **asked.validated_data)
        return Response(PartialUploadSerializer(upload).data, status=status.HTTP_201_CREATED)


class UploadView(APIView):
    parser_classes = [PieceParser]

    @extend_schema(
        summary="How far an upload is",
        tags=["uploads"],
        parameters=[ID],
        responses=PartialUploadSerializer,
    )
    def get(self, request: Request, id: str) -> Response:
        return Response(PartialUploadSerializer(partial.find(id, _person(request))).data)

    @extend_schema(
        summary="Send the next piece",
        tags=["uploads"],
        parameters=[
            ID,
            OpenApiParameter(OFFSET, int, OpenApiParameter.HEADER, description="Where it goes."),
        ],
        request={"application/octet-stream": OpenApiTypes.BINARY},
        responses=PartialUploadSerializer,
    )
    def patch(self, request: Request, id: str) -> Response:
        """409 where the offset is not the end of what is here: ask, and go on from there."""
        upload = partial.find(id, _person(request))
        partial.append(upload, _offset(request), _piece(request))
        return Response(PartialUploadSerializer(upload).data)

    @extend_schema(
        summary="Give an upload up", tags=["uploads"], parameters=[ID], responses={204: None}
    )
    def delete(self, request: Request, id: str) -> Response:
        partial.remove(partial.find(id, _person(request)))
        return Response(status=status.HTTP_204_NO_CONTENT)


def _person(request: Request) -> int:
    """Behind the permission classes: somebody is known."""
    assert request.user.pk is not None
    return int(request.user.pk)


def _piece(request: Request) -> bytes:
    piece: Any = request.data  # bytes: there is no other parser
    return bytes(piece)


def _offset(request: Request) -> int:
    value = request.headers.get(OFFSET, "")
    if value.isdecimal() and value.isascii() and len(value) < 16:
        return int(value)
    message = f"the header {OFFSET} must say at which byte the piece goes, got {value[:40]!r}"
    raise Invalid(f"{message}.", errors=[FieldError(field=OFFSET, message=message)])


api_patterns = [
    path_either("uploads/", UploadsView.as_view(), name="uploads"),
    path_either("uploads/<str:id>/", UploadView.as_view(), name="upload"),
]
page_patterns: list[Any] = []
