"""POST /api/v1/inference/generate, classify and embed: text and verdicts of models in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson
from drf_spectacular.utils import OpenApiExample

from inference import texts, verdicts
from inference.plane.routes import EVENTS, Call, Door, Reply, Route, described
from inference.plane.threads import in_thread
from inference.references import CODE_GENERATOR, find_reference
from inference.text_serializers import (
    ClassifySerializer,
    EmbeddedSerializer,
    EmbedSerializer,
    GeneratedSerializer,
    GenerateSerializer,
    VerdictSerializer,
)
from inference.texts import Piece, Pieces, Wish, Written
from mlserver.lib.errors import AppError
from mlserver.lib.sse import encode_event

LEAST_TOP_P = 1e-6
ROOT = "/api/v1/inference"
SECURITY, EMBEDDING = "security", "embedding"
"""Tasks of requests that name neither a task nor a model."""


@described(
    summary="Generate",
    tags=["inference"],
    request=GenerateSerializer,
    responses=GeneratedSerializer,
    examples=[
        OpenApiExample(
            "a function",
            value={"prompt": "def fibonacci(n):", "max_length": 100, "temperature": 0.7},
            request_only=True,
        )
    ],
)
class GenerateView(Door):
    """Goes on with a prompt. Without a model, and without a task, it is the model
    `code_generator`. 400 `context_length_exceeded` where the prompt is too long for the model:
    nothing is ever cut. A model that is not in memory is loaded first, for operators."""


async def generate(call: Call) -> Reply:
    asked = _read(GenerateSerializer, call)
    name, reference = await _find(asked, CODE_GENERATOR)
    wish = Wish(
        prompt=asked["prompt"],
        options={
            "max_tokens": asked["max_length"],
            "count": asked["num_return_sequences"],
            "temperature": asked["temperature"],
            "top_p": max(asked["top_p"], LEAST_TOP_P),
            "top_k": asked["top_k"],
            "seed": asked["seed"],
            "stop": asked["stop"],
        },
        timeout_seconds=asked["timeout_seconds"],
    )
    if asked["stream"]:
        loaded, pieces = await texts.stream(reference, wish, call.caller.user)
        return Reply(_events(pieces, name, asked["prompt"]), headers=EVENTS, model=str(loaded))
    written = await texts.write(reference, wish, call.caller.user)
    body = orjson.dumps(_describe(written, name, asked["prompt"]))
    return Reply(body, model=str(written.loaded))


async def _events(pieces: Pieces, name: str, prompt: str) -> AsyncGenerator[bytes]:
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                if isinstance(piece, Piece):
                    data = {"index": piece.number, "text": piece.text}
                    yield encode_event("piece", data)
                else:
                    yield encode_event("done", _describe(piece, name, prompt))
    except AppError as error:  # the answer has begun: only the stream itself can tell
        yield encode_event("error", {"code": error.code, "detail": error.detail})


def _describe(written: Written, name: str, prompt: str) -> dict[str, Any]:
    return {
        "generated_code": [_join(prompt, text, written) for text in written.texts],
        "completions": written.texts,
        "finish_reasons": written.endings,
        "prompt": prompt,
        "inference_time_ms": round(written.seconds * 1000, 3),
        "model_name": name,
        "version": written.loaded.version.number,
        "device": written.loaded.device,
        "usage": written.usage,
    }


def _join(prompt: str, text: str, written: Written) -> str:
    """A model that turns one text into another may have written the prompt itself."""
    is_whole = written.loaded.version.task != "causal" and text.startswith(prompt)
    return text if is_whole else prompt + text


def _read(serializer: Any, call: Call) -> dict[str, Any]:
    asked = serializer(data=call.json())
    asked.is_valid(raise_exception=True)
    return dict(asked.validated_data)


async def _find(asked: dict[str, Any], default: str) -> tuple[str, str]:
    """The name that the answer tells, and the reference that it stands for."""
    reference = await in_thread(find_reference, asked["model"], asked["task"], default=default)
    is_named = asked["model"] is not None or asked["task"] is not None
    return (asked["model"] or reference) if is_named else default, reference


@described(
    summary="Classify",
    tags=["inference"],
    request=ClassifySerializer,
    responses=VerdictSerializer,
    examples=[
        OpenApiExample(
            "is it safe?",
            value={"code": "import os; os.system('rm -rf /')", "task": "security"},
            request_only=True,
        )
    ],
)
class ClassifyView(Door):
    """Tells code, or any text, apart. Task `security` (the default) answers vulnerable or safe,
    with the lines and the rules that speak for it; a long file is judged function by function
    and the worst decides. Code is never run. Any other task is an alias of a classifier."""


async def classify(call: Call) -> Reply:
    asked = _read(ClassifySerializer, call)
    if asked["model"] is None and asked["task"] is None:
        asked["task"] = SECURITY
    name, reference = await _find(asked, SECURITY)
    judge = verdicts.review if asked["task"] == SECURITY else verdicts.classify
    verdict = await judge(
        reference, asked["code"], call.caller.user, timeout_seconds=asked["timeout_seconds"]
    )
    total = sum(verdict.scores.values())  # 1, but for what rounding to 32 bits left
    scores = {label: share / total for label, share in verdict.scores.items()}
    answer = {
        "label": verdict.label,
        "confidence": scores[verdict.label],
        "all_scores": scores,
        "code": asked["code"],
        "inference_time_ms": round(verdict.seconds * 1000, 3),
        "model_name": name,
        "version": verdict.loaded.version.number,
        "parts": verdict.parts,
        "findings": verdict.findings,
        "notes": verdict.notes,
    }
    return Reply(orjson.dumps(answer), model=str(verdict.loaded))


@described(
    summary="Embed",
    tags=["inference"],
    request=EmbedSerializer,
    responses=EmbeddedSerializer,
    examples=[
        OpenApiExample(
            "two texts", value={"model": "encoder", "input": ["one", "two"]}, request_only=True
        )
    ],
)
class EmbedView(Door):
    """A vector for each text: the mean of what an encoder makes of its tokens. Without a model
    it is the one with the alias `embedding`."""


async def embed(call: Call) -> Reply:
    asked = _read(EmbedSerializer, call)
    if asked["model"] is None and asked["task"] is None:
        asked["task"] = EMBEDDING
    name, reference = await _find(asked, EMBEDDING)
    made = await verdicts.embed(
        reference, asked["input"], call.caller.user, timeout_seconds=asked["timeout_seconds"]
    )
    answer = {
        "embeddings": made.vectors,
        "dimensions": len(made.vectors[0]),
        "prompt_tokens": made.tokens,
        "inference_time_ms": round(made.seconds * 1000, 3),
        "model_name": name,
        "version": made.loaded.version.number,
    }
    return Reply(orjson.dumps(answer), model=str(made.loaded))


ROUTES = [
    Route("POST", f"{ROOT}/generate", GenerateView.as_view(), generate),
    Route("POST", f"{ROOT}/classify", ClassifyView.as_view(), classify),
    Route("POST", f"{ROOT}/embed", EmbedView.as_view(), embed),
]
