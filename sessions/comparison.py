"""What differs between sessions: their configurations, and what they reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GIVEN = ("session",)  # by the server; it differs always


@dataclass(frozen=True)
class Difference:
    """A field that is not the same everywhere; None where a configuration has no such field."""

    name: str
    values: list[Any]


def find_differences(configs: list[Mapping[str, Any]]) -> list[Difference]:
    """The fields in which these configurations differ, in the order in which they are declared."""
    names = dict.fromkeys(name for config in configs for name in config if name not in GIVEN)
    rows = (Difference(name, [config.get(name) for config in configs]) for name in names)
    return [row for row in rows if any(value != row.values[0] for value in row.values)]
