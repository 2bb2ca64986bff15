"""JSON in and out. What comes in is refused unless every part can be stored and sent again."""

import math
from collections.abc import Mapping
from typing import IO, Any

import orjson
from django.conf import settings
from django.utils.functional import Promise
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer

from ml.storable import DEEPEST, NUMBER_LIMIT, storable
from mlserver.lib.errors import Malformed, TooLarge

OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC


def loads(body: bytes) -> Any:
    """Parse, or raise Malformed with a sentence that says where."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Malformed(
            f"The body is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})."
        ) from error
    _check(data)
    return data


def dumps(data: Any) -> bytes:
    """NaN and infinities, which JSON does not know, become null."""
    try:
        return orjson.dumps(data, default=_plain, option=OPTIONS)
    except orjson.JSONEncodeError:  # of an older row: half a surrogate pair, a huge number
        return orjson.dumps(storable(data), default=_plain, option=OPTIONS)


class JSONParser(BaseParser):
    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        body = _read(stream)
        if not body.strip():
            raise Malformed("The body is empty, but its type says JSON.")
        return loads(body)


class JSONRenderer(BaseRenderer):
    media_type = "application/json"
    format = "json"
    charset = None  # JSON is UTF-8, and says so itself

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return b"" if data is None else dumps(data)


def _read(stream: IO[Any]) -> bytes:
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    body: bytes = stream.read(limit + 1)
    if len(body) > limit:
        raise TooLarge(f"The body is larger than {limit} bytes. Send large data as a file.")
    return body


def _check(data: Any) -> None:
    """Depth, NUL characters, huge numbers. A loop, because deep input would break a recursion."""
    waiting: list[tuple[Any, int]] = [(data, 1)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, str):
            _check_text(value)
        elif isinstance(value, int | float):
            _check_number(value)
        elif isinstance(value, dict | list):
            if depth > DEEPEST:
                raise Malformed(f"The JSON is nested deeper than {DEEPEST} levels.")
            parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
            waiting.extend((part, depth + 1) for part in parts)


def _check_text(value: str) -> None:
    if "\0" in value:
        raise Malformed("The JSON contains a NUL character (\\u0000), which cannot be stored.")


def _check_number(value: float) -> None:
    if not math.isfinite(value):
        raise Malformed("The JSON contains a number too large for a 64-bit float.")
    if isinstance(value, int) and not -NUMBER_LIMIT <= value < NUMBER_LIMIT:
        raise Malformed("The JSON contains a whole number that does not fit into 64 bits.")


def _plain(value: Any) -> Any:
    """What orjson does not know by itself."""
    if isinstance(value, Promise):
        return str(value)
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):  # an array or a tensor's scalar
        return value.tolist()
    return str(value)
