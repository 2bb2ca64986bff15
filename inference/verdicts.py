"""Texts told apart and turned into vectors by models in memory; for every door that asks for it.

Plain data in and out, nothing of HTTP. Errors are those of mlserver.lib.errors.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from inference.demand import find_or_load
from inference.models import LoadedModel
from inference.plane.workers import workers
from mlserver.lib.errors import Invalid

VULNERABLE = "vulnerable"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    loaded: LoadedModel
    label: str
    scores: dict[str, float]
    seconds: float
    parts: list[dict[str, Any]] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """All three as ml.serve.review has them."""


@dataclass(frozen=True, kw_only=True)
class Embedded:
    loaded: LoadedModel
    vectors: list[list[float]]
    tokens: int
    seconds: float


async def review(reference: str, code: str, by: Any, *, timeout_seconds: float) -> Verdict:
    """How vulnerable Python code is, and what speaks for it."""
    loaded = await find_or_load(reference, by)
    started = time.perf_counter()
    _, body = await workers.ask(
        loaded, code.encode(), timeout_seconds=timeout_seconds, kind="review", worst=VULNERABLE
    )
    return Verdict(loaded=loaded, seconds=time.perf_counter() - started, **orjson.loads(body))


async def classify(reference: str, text: str, by: Any, *, timeout_seconds: float) -> Verdict:
    """Any classifier of texts. Raises Invalid where the model is none."""
    loaded = await find_or_load(reference, by)
    signature = loaded.signature or {}
    if not signature.get("classes") or not _takes_a_text(signature):
        raise _not_offered(loaded, "tell texts apart")
    started = time.perf_counter()
    answer = await _predict(loaded, [text], ["label", "probabilities"], timeout_seconds)
    names = map(str, signature["classes"])
    return Verdict(
        loaded=loaded,
        label=str(answer["label"][0]),
        scores=dict(zip(names, answer["probabilities"][0], strict=True)),
        seconds=time.perf_counter() - started,
    )


async def embed(
    reference: str, texts: Sequence[str], by: Any, *, timeout_seconds: float
) -> Embedded:
    """A vector for each text. Raises Invalid where the model makes none."""
    loaded = await find_or_load(reference, by)
    signature = loaded.signature or {}
    outputs = {spec["name"] for spec in signature.get("outputs", [])}
    if not {"embedding", "tokens"} <= outputs or not _takes_a_text(signature):
        raise _not_offered(loaded, "turn texts into vectors")
    started = time.perf_counter()
    answer = await _predict(loaded, texts, ["embedding", "tokens"], timeout_seconds)
    return Embedded(
        loaded=loaded,
        vectors=answer["embedding"],
        tokens=sum(answer["tokens"]),
        seconds=time.perf_counter() - started,
    )


async def _predict(
    loaded: LoadedModel, texts: Sequence[str], outputs: list[str], timeout_seconds: float
) -> dict[str, Any]:
    assert loaded.signature is not None
    body = orjson.dumps({loaded.signature["inputs"][0]["name"]: list(texts)})
    _, raw = await workers.ask(loaded, body, timeout_seconds=timeout_seconds, outputs=outputs)
    answer: dict[str, Any] = orjson.loads(raw)
    return answer


def _takes_a_text(signature: dict[str, Any]) -> bool:
    return [spec["datatype"] for spec in signature["inputs"]] == ["BYTES"]


def _not_offered(loaded: LoadedModel, what: str) -> Invalid:
    return Invalid(f"{loaded} does not {what}; name another model.", code="not_offered")
