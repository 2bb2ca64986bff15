"""JSON that every database and every reader takes. What a child or a library wrote may hold half
of a surrogate pair, NUL, infinities, huge numbers and endless nesting. Standard library only."""

from __future__ import annotations

import json
import math
import re
from typing import Any

DEEPEST = 64
NUMBER_LIMIT = 2**63
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def read_storable(text: str | bytes) -> Any:
    """Parse JSON; raises ValueError, also for what is nested too deeply."""
    try:
        return storable(json.loads(text))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def storable(value: Any, depth: int = 0) -> Any:
    """The same with U+FFFD, null and floats for what cannot be stored. Raises ValueError."""
    if isinstance(value, str):
        return UNSTORABLE.sub(REPLACEMENT, value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if -NUMBER_LIMIT <= value < NUMBER_LIMIT else _as_float(value)
    if depth == DEEPEST and isinstance(value, dict | list):
        raise ValueError(f"it is nested deeper than {DEEPEST} levels")
    if isinstance(value, dict):
        return {storable(name): storable(each, depth + 1) for name, each in value.items()}
    if isinstance(value, list):
        return [storable(each, depth + 1) for each in value]
    return value


def _as_float(value: int) -> float | None:
    try:
        return float(value)
    except OverflowError:
        return None
