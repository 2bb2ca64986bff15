"""Text from models in memory, whole or piece by piece; for every door that speaks of text.

Plain data in and out, nothing of HTTP. Errors are those of mlserver.lib.errors.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import orjson

from inference.demand import find_or_load
from inference.models import LoadedModel
from inference.plane.workers import workers
from ml.serve.frames import Frame

Prompt = str | Sequence[Mapping[str, str]]
"""A text to go on with, or the messages of a chat."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    prompt: Prompt
    options: Mapping[str, Any] = field(default_factory=dict)
    """As ml.serve.wishes has them; what is None there is left to its default."""
    timeout_seconds: float = 120.0

    @property
    def header(self) -> dict[str, Any]:
        return {"kind": "generate", **self.options}


@dataclass(frozen=True, kw_only=True)
class Written:
    loaded: LoadedModel
    texts: list[str]
    endings: list[str]
    """Of each text: `stop` or `length`."""
    prompt_tokens: int
    completion_tokens: int
    seconds: float

    @property
    def usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


@dataclass(frozen=True, slots=True)
class Piece:
    """What the `number`-th of the texts goes on with."""

    number: int
    text: str


Pieces = AsyncGenerator[Piece | Written]
"""Pieces as they are written, and at last the whole."""


async def write(reference: str, wish: Wish, by: Any) -> Written:
    loaded = await find_or_load(reference, by)
    started = time.perf_counter()
    frame = await workers.ask(
        loaded,
        orjson.dumps(wish.prompt),
        timeout_seconds=wish.timeout_seconds,
        **wish.header,
    )
    return _written(loaded, frame, time.perf_counter() - started)


async def stream(reference: str, wish: Wish, by: Any) -> tuple[LoadedModel, Pieces]:
    """What goes wrong before the first piece is raised here. Close the generator early, and the
    worker stops writing."""
    loaded = await find_or_load(reference, by)
    started = time.perf_counter()
    body = orjson.dumps(wish.prompt)
    frames = workers.stream(loaded, wish.header, body, timeout_seconds=wish.timeout_seconds)
    try:
        first = await anext(frames)
    except BaseException:
        await frames.aclose()
        raise
    return loaded, _pieces(loaded, first, frames, started)


async def _pieces(
    loaded: LoadedModel, first: Frame, frames: AsyncGenerator[Frame], started: float
) -> Pieces:
    async with aclosing(frames):
        yield _read(loaded, first, started)
        async for frame in frames:
            yield _read(loaded, frame, started)


def _read(loaded: LoadedModel, frame: Frame, started: float) -> Piece | Written:
    header, body = frame
    if header.get("is_last", True):
        return _written(loaded, frame, time.perf_counter() - started)
    return Piece(header["number"], body.decode())


def _written(loaded: LoadedModel, frame: Frame, seconds: float) -> Written:
    facts, body = frame
    return Written(
        loaded=loaded,
        texts=orjson.loads(body),
        endings=facts["endings"],
        prompt_tokens=facts["prompt_tokens"],
        completion_tokens=facts["completion_tokens"],
        seconds=seconds,
    )
