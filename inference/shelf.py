"""What the page of models in memory shows: who takes how much, how far it is, what keeps it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User

from inference.memory import find_budget
from inference.models import LoadedModel, State
from mlserver.api.permissions import may_change
from mlserver.lib.errors import NoSpace

SHADES = 4
STAGES = ("start", "verify", "load", "warm_up")
"""Of loading, in their order: the manager's own, then what a worker tells."""
PINNED = "pinned"
KEEPS = ("", "300", "3600", "86400", PINNED)
"""What is offered of how long a model stays; see `read_keep`."""
UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True, kw_only=True)
class Part:
    label: str
    size_bytes: int
    start: float
    width: float
    """Both in percent of the device's budget."""
    shade: str


@dataclass(frozen=True, kw_only=True)
class Device:
    name: str
    budget_bytes: int | None
    """None: its memory cannot be read now; `reason` says why."""
    used_bytes: int
    parts: list[Part]
    reason: str = ""


def describe_devices(rows: Iterable[LoadedModel]) -> list[Device]:
    """The devices that hold models, each with its budget and who takes how much of it."""
    holders: dict[str, list[LoadedModel]] = {}
    for row in rows:
        if row.memory_bytes:
            holders.setdefault(row.device, []).append(row)
    return [_describe_device(name, held) for name, held in sorted(holders.items())]


def _describe_device(name: str, held: list[LoadedModel]) -> Device:
    used = sum(row.memory_bytes or 0 for row in held)
    try:
        budget, reason = max(find_budget(name), used), ""
    except NoSpace as error:
        return Device(name=name, budget_bytes=None, used_bytes=used, parts=[], reason=error.detail)
    parts, start = [], 0.0
    for place, row in enumerate(held):
        width = 100 * (row.memory_bytes or 0) / budget
        shade = f"s{place % SHADES + 1}"
        parts.append(
            Part(
                label=str(row), size_bytes=row.memory_bytes or 0, start=start, width=width,
                shade=shade,
            )
        )  # fmt: skip
        start += width
    return Device(name=name, budget_bytes=budget, used_bytes=used, parts=parts, reason=reason)


# --- Rows ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Row:
    loaded: LoadedModel
    may_change: bool
    stages_done: int
    """Of `stages`; begun ones count."""
    stages: int
    keep: str
    """In words."""
    keeps: list[tuple[str, str, bool]]
    """(value, words, whether it is so now) of each choice."""

    @property
    def is_moving(self) -> bool:
        return self.loaded.state not in (State.READY, State.FAILED)


def describe_row(loaded: LoadedModel, who: User) -> Row:
    now = _write_keep(loaded)
    choices = KEEPS if now in KEEPS else (now, *KEEPS)
    return Row(
        loaded=loaded,
        may_change=may_change(who, loaded.owner_id),
        stages_done=STAGES.index(loaded.stage) + 1 if loaded.stage in STAGES else 0,
        stages=len(STAGES),
        keep=spell_keep(now),
        keeps=[(value, spell_keep(value), value == now) for value in choices],
    )


def offer_keeps() -> list[tuple[str, str]]:
    return [(value, spell_keep(value)) for value in KEEPS]


def read_keep(value: str) -> dict[str, Any]:
    """`pinned`, seconds, both or neither, as the fields that `models/load` has."""
    words = value.split()
    seconds = [word for word in words if word != PINNED]
    return {"pinned": PINNED in words, "keep_alive_seconds": " ".join(seconds) or None}


def _write_keep(loaded: LoadedModel) -> str:
    words = (PINNED if loaded.is_pinned else "", str(loaded.keep_alive_seconds or ""))
    return " ".join(filter(None, words))


def spell_keep(value: str) -> str:
    kept = read_keep(value)
    seconds = kept["keep_alive_seconds"]
    if seconds is None:
        return "always (pinned)" if kept["pinned"] else "while there is room"
    return f"{'pinned, ' if kept['pinned'] else ''}until unused for {_spell_time(int(seconds))}"


def _spell_time(seconds: int) -> str:
    size, unit = next(one for one in UNITS if seconds % one[0] == 0)
    return f"{seconds // size} {unit}"
