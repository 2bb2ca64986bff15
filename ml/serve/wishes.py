"""What a request wants written, read from its frame; what is not offered is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from ml.serve.errors import InvalidInput
from ml.serve.generation import Generation, Wish
from ml.serve.language import Language
from ml.serve.sampling import Sampling

FRAME = {"kind", "id", "timeout_seconds", "stream"}
MOST_COUNT = 32
MOST_STOPS = 16
LONGEST_STOP = 200
LARGEST_SEED = 2**63 - 1
HOTTEST = 100.0


def read_wish(header: Mapping[str, Any], body: bytes, engine: Generation) -> Wish:
    """`body` is JSON: a text, or the messages of a chat. Raises InvalidInput and
    ContextLengthExceeded."""
    options = {name: value for name, value in header.items() if name not in FRAME}
    prompt = _read_prompt(body, engine.language)
    if not prompt:
        raise InvalidInput("The prompt is empty.", field="prompt")
    engine.language.check_length(prompt, engine.context - 1, "prompt")
    room = engine.context - len(prompt)
    most = _whole(options, "max_tokens", 1, 2**31, room)
    wish = Wish(
        prompt=prompt,
        most=min(most, room),
        count=_whole(options, "count", 1, MOST_COUNT, 1),
        sampling=Sampling(
            temperature=_number(options, "temperature", 0.0, HOTTEST, 1.0),
            top_p=_number(options, "top_p", 1e-6, 1.0, 1.0),
            top_k=_whole(options, "top_k", 0, 2**31, 0),
        ),
        seed=_whole(options, "seed", 0, LARGEST_SEED, None),
        stops=_read_stops(options.pop("stop", None)),
    )
    if options:
        name = next(iter(options))
        raise InvalidInput(f"{name[:100]!r} is not offered by this model.", field=name[:100])
    if wish.count * (len(prompt) + wish.most) > engine.room:
        raise InvalidInput(
            f"{wish.count} texts of {wish.most} tokens are more than the memory of this model holds"
            " at once; ask for fewer or shorter ones.",
            field="count",
        )
    return wish


def _read_prompt(body: bytes, language: Language) -> list[int]:
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"The prompt is not valid JSON: {error.msg}.") from error
    if isinstance(asked, list):
        return language.write_chat(asked)
    if not isinstance(asked, str):
        raise InvalidInput("The prompt must be a text.", field="prompt")
    (tokens,) = language.encode([language.preprocess.get("prefix", "") + asked])
    if language.task == "causal":
        tokens = _leave_open(tokens, language.tokenizer)
    return tokens


def _leave_open(tokens: list[int], tokenizer: Any) -> list[int]:
    """Some tokenizers put an end after every text; here the text goes on. Of nothing at all the
    beginning is written."""
    if tokens and tokens[-1] == tokenizer.eos_token_id:
        tokens = tokens[:-1]
    begin = tokenizer.bos_token_id
    return tokens or ([] if begin is None else [begin])


def _read_stops(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value or []
    is_fitting = isinstance(stops, list) and len(stops) <= MOST_STOPS
    if not is_fitting or not all(
        isinstance(stop, str) and 0 < len(stop) <= LONGEST_STOP for stop in stops
    ):
        raise InvalidInput(
            f"stop must be a text, or a list of up to {MOST_STOPS} texts of up to"
            f" {LONGEST_STOP} characters.",
            field="stop",
        )
    return tuple(stops)


def _whole(options: dict[str, Any], name: str, least: int, most: int, default: Any) -> Any:
    value = options.pop(name, None)
    if value is None:
        return default
    if type(value) is not int or not least <= value <= most:
        raise InvalidInput(f"{name} must be a whole number from {least} to {most}.", field=name)
    return value


def _number(options: dict[str, Any], name: str, least: float, most: float, default: float) -> float:
    value = options.pop(name, None)
    if value is None:
        return default
    if type(value) not in (int, float) or not least <= value <= most:
        raise InvalidInput(f"{name} must be a number from {least:g} to {most:g}.", field=name)
    return float(value)
