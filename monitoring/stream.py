"""The event streams: /stream/ for the pages, one per session for programs.

The views are ordinary DRF views, so keys, roles and errors are those of every other
address; only what they return is endless.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.db import connections
from django.utils.crypto import constant_time_compare
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.models import ApiKey
from accounts.tokens import is_valid
from jobs.models import FINAL_STATES
from mlserver.lib.sse import (
    CONTENT_TYPE,
    KEEP_ALIVE,
    KEEP_ALIVE_SECONDS,
    RECONNECT,
    EventStream,
    encode_event,
    require_asgi,
)
from monitoring.feed import SESSION, parse_topics
from monitoring.hub import MISSED, Message, Subscription, get_hub
from monitoring.places import Place, take_place

RECHECK_SECONDS = 60
LAST_WORDS_SECONDS = 0.75  # the log line of an end is written a moment after it

Gate = Callable[[], bool]


class EventStreamRenderer(BaseRenderer):
    """Only so that `Accept: text/event-stream` is acceptable; streams are not rendered."""

    media_type = CONTENT_TYPE
    format = "events"

    def render(self, data: Any, *_: Any, **__: Any) -> bytes:
        raise NotImplementedError("a stream view answers with an EventStream, never with data")


class StreamView(APIView):
    renderer_classes = [EventStreamRenderer, JSONRenderer]

    def open_stream(self, request: Request, topics: frozenset[str], ends_with: str = "") -> Any:
        require_asgi(request._request)
        last_event_id = request.headers.get("Last-Event-ID", "")
        chunks = stream(take_place(), topics, last_event_id, make_gate(request), ends_with)
        # This thread stays with the stream; its connection must not.
        connections.close_all()
        return EventStream(chunks)


class PageStream(StreamView):
    @extend_schema(
        summary="Live events",
        description=(
            "Server-sent events `sample`, `session`, `metric`, `epoch`, `log`, `job`, `notice`, "
            "`bye`. Open the stream first, then load the history: nothing is lost in between. "
            "After `notice` with code `resync` load the history again."
        ),
        parameters=[
            OpenApiParameter(
                "topics",
                str,
                required=True,
                description="Separated by commas: system, sessions, session:<id>, job:<id>.",
            )
        ],
        responses={(200, CONTENT_TYPE): OpenApiTypes.STR},
    )
    def get(self, request: Request) -> Any:
        return self.open_stream(request, parse_topics(request.query_params.get("topics", "")))


class SessionStream(StreamView):
    @extend_schema(
        summary="Live events of one session",
        description=(
            "Server-sent events `session`, `metric`, `epoch`, `log`; the first `session` says "
            "how things stand, the last event `bye` follows the session's end."
        ),
        responses={(200, CONTENT_TYPE): OpenApiTypes.STR},
    )
    def get(self, request: Request, session_id: str) -> Any:
        topics = parse_topics(SESSION + session_id)
        return self.open_stream(request, topics, ends_with=SESSION + session_id)


async def stream(
    place: Place, topics: frozenset[str], last_event_id: str, may_go_on: Gate, ends_with: str
) -> AsyncIterator[bytes]:
    """Chunks until the reader leaves, is no longer allowed, or the topic `ends_with` ends."""
    with place:
        hub = get_hub()
        subscription, first = await hub.subscribe(topics, last_event_id)
        try:
            yield RECONNECT  # the first word: from here on nothing is missed
            for message in first:
                yield message.chunk
            is_over = any(_is_end(message, ends_with) for message in first)
            async for chunk in _follow(subscription, may_go_on, ends_with, is_over):
                yield chunk
        finally:
            hub.unsubscribe(subscription)


async def _follow(
    subscription: Subscription, may_go_on: Gate, ends_with: str, is_over: bool
) -> AsyncIterator[bytes]:
    check_at = time.monotonic() + RECHECK_SECONDS
    while True:
        patience = LAST_WORDS_SECONDS if is_over else KEEP_ALIVE_SECONDS
        try:
            message = await asyncio.wait_for(subscription.queue.get(), patience)
        except TimeoutError:
            if is_over:
                yield _bye("ended", "The session has ended.")
                return
            yield KEEP_ALIVE
        else:
            if message is None:
                return  # the server stops; the reader comes back to the next one
            yield message.chunk
            is_over = is_over or _is_end(message, ends_with)
        if subscription.take_missed():
            yield encode_event("notice", MISSED)
        if time.monotonic() >= check_at:
            if not await sync_to_async(_ask)(may_go_on):
                yield _bye("not_allowed", "You are signed out, or the key is no longer valid.")
                return
            check_at = time.monotonic() + RECHECK_SECONDS


def _is_end(message: Message, topic: str) -> bool:
    event = message.event
    return bool(topic) and event.topic == topic and event.data.get("state") in FINAL_STATES


def _bye(reason: str, sentence: str) -> bytes:
    return encode_event("bye", {"reason": reason, "message": sentence})


def _ask(may_go_on: Gate) -> bool:
    try:
        return may_go_on()
    finally:
        connections.close_all()


def make_gate(request: Request) -> Gate:
    """A question that may be asked again later: is whoever opened this still allowed?"""
    if isinstance(request.auth, ApiKey):
        key_id = request.auth.pk
        return lambda: ApiKey.objects.usable().filter(pk=key_id).exists()
    if isinstance(request.auth, str):
        token = request.auth
        return lambda: is_valid(token)
    store_class, session_key = type(request.session), request.session.session_key
    assert isinstance(request.user, User)  # nobody else passed the view's permission
    user_id = request.user.pk
    return lambda: _is_signed_in(store_class(session_key), user_id)


def _is_signed_in(store: Any, user_id: int) -> bool:
    user = User.objects.filter(pk=user_id, is_active=True).first()
    if user is None or store.get(SESSION_KEY) != str(user_id):
        return False  # signed out
    return constant_time_compare(store.get(HASH_SESSION_KEY, ""), user.get_session_auth_hash())
