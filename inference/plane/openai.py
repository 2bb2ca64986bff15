"""OpenAI's protocol: POST /v1/completions, /v1/chat/completions and /v1/embeddings.

As https://platform.openai.com/docs/api-reference has them, streams and errors included.
"""

from __future__ import annotations

import asyncio
import base64
import struct
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any

import orjson
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample
from rest_framework.exceptions import ValidationError

from inference import texts, verdicts
from inference.openai_serializers import ChatSerializer, CompletionSerializer, EmbeddingsSerializer
from inference.plane.routes import EVENTS, Call, Door, Reply, Route, described
from inference.plane.threads import in_thread
from inference.references import find_reference
from inference.texts import Piece, Pieces, Wish, Written
from mlserver.api.errors import from_validation
from mlserver.lib.errors import AppError, Invalid, Malformed, NotFound

TIMEOUT_SECONDS = 300.0
LEAST_TOP_P = 1e-6
DONE = b"data: [DONE]\n\n"

Body = dict[str, Any]
Choice = Callable[[int, str | None, str | None], Body]
"""Index, text and finish_reason, each as the endpoint's streams have it."""


@described(
    operation_id="v1_completions",
    summary="Complete a text (OpenAI)",
    tags=["openai"],
    request=CompletionSerializer,
    responses=OpenApiTypes.OBJECT,
    examples=[
        OpenApiExample(
            "a function",
            value={"model": "code_generator", "prompt": "def fibonacci(n):", "max_tokens": 64},
            request_only=True,
        )
    ],
)
class CompletionsView(Door):
    """As OpenAI's, for any model that writes text."""


@described(
    operation_id="v1_chat_completions",
    summary="Answer a chat (OpenAI)",
    tags=["openai"],
    request=ChatSerializer,
    responses=OpenApiTypes.OBJECT,
)
class ChatView(Door):
    """As OpenAI's, for models with a chat template; others are refused."""


@described(
    operation_id="v1_embeddings",
    summary="Embed (OpenAI)",
    tags=["openai"],
    request=EmbeddingsSerializer,
    responses=OpenApiTypes.OBJECT,
)
class EmbeddingsView(Door):
    """As OpenAI's, for encoders; numbers as a list or as base64 of 32-bit floats."""


async def complete(call: Call) -> Reply:
    with _in_their_words():
        asked = _read(CompletionSerializer, call)
        reference = await _find(asked)
        prompts, most = asked["prompt"], asked["max_tokens"] or 16
        wishes = [_wish(prompt, most, asked) for prompt in prompts]
        echoes = [prompt if asked["echo"] else "" for prompt in prompts]
        if asked["stream"]:

            def choice(index: int, text: str | None, reason: str | None) -> Body:
                made = {"index": index, "text": text or "", "logprobs": None}
                return {**made, "finish_reason": reason}

            return await _stream(
                call, reference, wishes[0], asked, _head("cmpl", "text_completion", asked), choice,
                opening=echoes[0] or None,
            )  # fmt: skip
        user = call.caller.user
        written = await _write_all(reference, wishes, user)
    choices = [
        {"text": echo + text, "logprobs": None, "finish_reason": ending}
        for echo, each in zip(echoes, written, strict=True)
        for text, ending in zip(each.texts, each.endings, strict=True)
    ]
    return _reply(_head("cmpl", "text_completion", asked), choices, written)


async def chat(call: Call) -> Reply:
    with _in_their_words():
        asked = _read(ChatSerializer, call)
        reference = await _find(asked)
        messages = [{"role": m["role"], "content": m["content"]} for m in asked["messages"]]
        most = asked["max_completion_tokens"] or asked["max_tokens"]
        wish = _wish(messages, most, asked)
        if asked["stream"]:

            def choice(index: int, text: str | None, reason: str | None) -> Body:
                delta = {} if text is None else {"content": text}
                if text == "":
                    delta["role"] = "assistant"
                return {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}

            head = _head("chatcmpl", "chat.completion.chunk", asked)
            return await _stream(call, reference, wish, asked, head, choice, opening="")
        written = await texts.write(reference, wish, call.caller.user)
    choices = [
        {
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None,
            "finish_reason": ending,
        }
        for text, ending in zip(written.texts, written.endings, strict=True)
    ]
    return _reply(_head("chatcmpl", "chat.completion", asked), choices, [written])


async def embed(call: Call) -> Reply:
    with _in_their_words():
        asked = _read(EmbeddingsSerializer, call)
        reference = await _find(asked)
        made = await verdicts.embed(
            reference, asked["input"], call.caller.user, timeout_seconds=TIMEOUT_SECONDS
        )
    is_packed = asked["encoding_format"] == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _pack(each) if is_packed else each}
        for index, each in enumerate(made.vectors)
    ]
    usage = {"prompt_tokens": made.tokens, "total_tokens": made.tokens}
    answer = {"object": "list", "data": data, "model": asked["model"], "usage": usage}
    return Reply(orjson.dumps(answer), model=str(made.loaded))


def _pack(numbers: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


# --- What is asked ------------------------------------------------------------------------


@contextmanager
def _in_their_words() -> Iterator[None]:
    """Their clients know 400 for whatever is wrong with a request, and `model_not_found`."""
    try:
        yield
    except ValidationError as error:
        invalid = from_validation(error.detail, {})
        raise Malformed(invalid.detail, code="invalid_request", errors=invalid.errors) from error
    except Invalid as error:
        raise Malformed(error.detail, code=error.code, errors=error.errors) from error
    except NotFound as error:
        raise NotFound(error.detail, code="model_not_found") from error


def _read(serializer: Any, call: Call) -> Body:
    asked = serializer(data=call.json())
    asked.is_valid(raise_exception=True)
    return dict(asked.validated_data)


async def _find(asked: Mapping[str, Any]) -> str:
    return await in_thread(find_reference, asked["model"], None, default=asked["model"])


def _wish(prompt: texts.Prompt, most: int | None, asked: Mapping[str, Any]) -> Wish:
    top_p = asked["top_p"]
    options = {
        "max_tokens": most,
        "count": asked["n"],
        "temperature": asked["temperature"],
        "top_p": None if top_p is None else max(top_p, LEAST_TOP_P),
        "top_k": asked["top_k"],
        "seed": asked["seed"],
        "stop": asked["stop"],
    }
    return Wish(prompt=prompt, options=options, timeout_seconds=TIMEOUT_SECONDS)


async def _write_all(reference: str, wishes: list[Wish], by: Any) -> list[Written]:
    """All prompts at once; if one cannot be answered, none is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(texts.write(reference, wish, by)) for wish in wishes]
    except* AppError as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


# --- What is answered ---------------------------------------------------------------------


def _head(prefix: str, kind: str, asked: Mapping[str, Any]) -> Body:
    made = {"id": f"{prefix}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time())}
    return {**made, "model": asked["model"]}


def _reply(head: Body, choices: list[Body], written: list[Written]) -> Reply:
    usage = {name: sum(each.usage[name] for each in written) for name in written[0].usage}
    numbered = [{"index": index, **choice} for index, choice in enumerate(choices)]
    body = orjson.dumps({**head, "choices": numbered, "usage": usage})
    return Reply(body, model=str(written[0].loaded))


async def _stream(
    call: Call,
    reference: str,
    wish: Wish,
    asked: Mapping[str, Any],
    head: Body,
    choice: Choice,
    *,
    opening: str | None,
) -> Reply:
    """`opening`: the text of a first chunk for every choice; None: there is none."""
    loaded, pieces = await texts.stream(reference, wish, call.caller.user)
    options = asked["stream_options"] or {}
    openings = [] if opening is None else [choice(n, opening, None) for n in range(asked["n"] or 1)]
    chunks = _chunks(
        pieces, head, choice, openings, tells_usage=options.get("include_usage", False)
    )
    return Reply(chunks, headers=EVENTS, model=str(loaded))


async def _chunks(
    pieces: Pieces, head: Body, choice: Choice, openings: list[Body], *, tells_usage: bool
) -> AsyncGenerator[bytes]:
    usage = {"usage": None} if tells_usage else {}

    def chunk(made: Body) -> bytes:
        return _event({**head, "choices": [made], **usage})

    try:
        async with aclosing(pieces):
            for each in openings:
                yield chunk(each)
            async for piece in pieces:
                if isinstance(piece, Piece):
                    yield chunk(choice(piece.number, piece.text, None))
                    continue
                for index, ending in enumerate(piece.endings):
                    yield chunk(choice(index, None, ending))
                if tells_usage:
                    yield _event({**head, "choices": [], "usage": piece.usage})
    except AppError as error:  # the answer has begun: only the stream itself can tell
        told = {"message": error.detail, "type": "server_error", "param": None, "code": error.code}
        yield _event({"error": told})
    yield DONE


def _event(data: Body) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


ROUTES = [
    Route("POST", "/v1/completions", CompletionsView.as_view(), complete),
    Route("POST", "/v1/chat/completions", ChatView.as_view(), chat),
    Route("POST", "/v1/embeddings", EmbeddingsView.as_view(), embed),
]
