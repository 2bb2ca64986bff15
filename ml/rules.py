"""What one field of a training configuration accepts, and the sentence that says so.

Standard library only. A rule knows nothing of recipes; ml.config puts rules together.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Protocol

MAX_SHOWN = 80
TEXT = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,500}")
DEVICE = re.compile(r"auto|cpu|cuda|cuda:\d{1,2}")


class Refused(Exception):
    """The value breaks the rule: `message` continues the sentence "<field> …"."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class Rule(Protocol):
    def check(self, value: Any) -> Any:
        """The value as it is stored, or Refused."""

    def describe(self) -> dict[str, Any]:
        """Kind and bounds as JSON, enough to draw a form field."""


def show(value: Any) -> str:
    """A short picture of any JSON value, for the end of an error message."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a number of more than 30 digits"  # str() itself refuses very long integers
    text = value if isinstance(value, str) and value else repr(value)
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"


@dataclass(frozen=True, kw_only=True)
class Number:
    low: float
    high: float
    whole: bool = False
    above_low: bool = False
    """The lower bound itself is refused."""
    nullable: bool = False

    def check(self, value: Any) -> Any:
        if value is None and self.nullable:
            return None
        wanted = "a whole number" if self.whole else "a number"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Refused(f"must be {wanted}, got {show(value)}", "invalid_type")
        if isinstance(value, float) and not math.isfinite(value):
            raise Refused(f"must be finite, got {value}", "invalid_type")
        if self.whole and value != int(value):
            raise Refused(f"must be {wanted}, got {show(value)}", "invalid_type")
        self._check_bounds(value)
        return int(value) if self.whole else float(value)

    def _check_bounds(self, value: float) -> None:
        if self.above_low and value <= self.low:
            raise Refused(f"must be greater than {self.low:g}, got {show(value)}", "too_small")
        if value < self.low:
            raise Refused(f"must be at least {_plain(self.low)}, got {show(value)}", "too_small")
        if value > self.high:
            raise Refused(f"must be at most {_plain(self.high)}, got {show(value)}", "too_large")

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "integer" if self.whole else "number",
            "minimum": self.low,
            "maximum": self.high,
            "exclusive_minimum": self.above_low,
            "nullable": self.nullable,
        }


@dataclass(frozen=True, kw_only=True)
class Choice:
    choices: tuple[str, ...]

    def check(self, value: Any) -> Any:
        if not isinstance(value, str) or value not in self.choices:
            known = ", ".join(self.choices)
            raise Refused(f"must be one of {known}; got {show(value)}", "invalid_choice")
        return value

    def describe(self) -> dict[str, Any]:
        return {"kind": "choice", "choices": list(self.choices), "nullable": False}


@dataclass(frozen=True, kw_only=True)
class Flag:
    def check(self, value: Any) -> Any:
        if not isinstance(value, bool):
            raise Refused(f"must be true or false, got {show(value)}", "invalid_type")
        return value

    def describe(self) -> dict[str, Any]:
        return {"kind": "boolean", "nullable": False}


@dataclass(frozen=True, kw_only=True)
class Text:
    pattern: re.Pattern[str] = TEXT
    wanted: str = "a text of 1 to 500 characters without control characters"
    nullable: bool = False
    empty: bool = False

    def check(self, value: Any) -> Any:
        if (value is None and self.nullable) or (value == "" and self.empty):
            return value
        if not isinstance(value, str) or not self.pattern.fullmatch(value):
            raise Refused(f"must be {self.wanted}, got {show(value)}", "invalid_text")
        return value

    def describe(self) -> dict[str, Any]:
        return {"kind": "text", "nullable": self.nullable}


@dataclass(frozen=True, kw_only=True)
class Integers:
    """A list of whole numbers, stored as a tuple so that a configuration is immutable."""

    low: int
    high: int
    most: int

    def check(self, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise Refused(f"must be a list of whole numbers, got {show(value)}", "invalid_type")
        if not 1 <= len(value) <= self.most:
            sentence = f"must hold 1 to {self.most} numbers, got {len(value)}"
            raise Refused(sentence, "invalid_length")
        one = Number(low=self.low, high=self.high, whole=True)
        return tuple(self._check_one(one, item, place) for place, item in enumerate(value, 1))

    @staticmethod
    def _check_one(rule: Number, item: Any, place: int) -> Any:
        try:
            return rule.check(item)
        except Refused as refused:
            raise Refused(f"{refused.message} at place {place}", refused.code) from None

    def describe(self) -> dict[str, Any]:
        bounds = {"minimum": self.low, "maximum": self.high, "max_length": self.most}
        return {"kind": "integers", "nullable": False, **bounds}


@dataclass(frozen=True, kw_only=True)
class Names:
    """A list of names, stored as a tuple; an empty one is allowed."""

    most: int

    def check(self, value: Any) -> Any:
        if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
            raise Refused(f"must be a list of names, got {show(value)}", "invalid_type")
        if len(value) > self.most:
            raise Refused(f"must hold at most {self.most} names, got {len(value)}", "too_large")
        return tuple(Text(wanted="a list of short names").check(one) for one in value)

    def describe(self) -> dict[str, Any]:
        return {"kind": "names", "nullable": False, "max_length": self.most}


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:g}"
