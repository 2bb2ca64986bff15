"""The energy of each session: its share of what the GPUs counted while it held them.

A GPU counts for all who use it. Those who are busier get more of it; where nobody's load
is known, or all idle, everyone who holds it gets the same.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import F, FloatField, Value
from django.db.models.functions import Coalesce

from ml.hardware import GpuReading
from sessions.models import TrainingSession

ON_CPU = "It computes on the CPU; only GPUs count energy."

NOBODY = ""  # no session of this server: somebody else, or nobody at all
Holders = dict[str, dict[str, float]]
Used = dict[str, dict[str, float | None]]
"""Whole GPU → session → joules; None where the GPU counts none."""


class EnergyMeter:
    """Keeps the last count of each GPU. A counter that began anew starts a new difference."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def measure(self, gpus: Iterable[GpuReading], holders: Holders) -> Used:
        """Joules since the last call. What an idle GPU takes is nobody's."""
        of_gpu = by_whole_gpu(gpus, holders)
        found: Used = {}
        for gpu in gpus:
            if gpu.parent_uuid:
                continue
            used = self._difference(gpu)
            shares = _shares(of_gpu.get(gpu.uuid) or {NOBODY: 0.0})
            found[gpu.uuid] = {
                session: None if used is None else used * share for session, share in shares.items()
            }
        return found

    def _difference(self, gpu: GpuReading) -> float | None:
        count, before = gpu.energy_joules, self._last.get(gpu.uuid)
        if count is None:
            return None
        self._last[gpu.uuid] = count
        return 0.0 if before is None else max(0.0, count - before)


def by_whole_gpu(gpus: Iterable[GpuReading], holders: Holders) -> Holders:
    """Only whole GPUs count; who holds a MIG instance holds a part of its GPU."""
    parents = {gpu.uuid: gpu.parent_uuid for gpu in gpus if gpu.parent_uuid}
    merged: Holders = {}
    for uuid, shares in holders.items():
        whole = merged.setdefault(parents.get(uuid, uuid), {})
        for session, busy in shares.items():
            whole[session] = whole.get(session, 0.0) + busy
    return merged


def _shares(busy: dict[str, float]) -> dict[str, float]:
    total = sum(busy.values())
    return {who: one / total if total else 1 / len(busy) for who, one in busy.items()}


def add_energy(used: Used) -> None:
    joules: dict[str, float] = {}
    for shares in used.values():
        for session, amount in shares.items():
            if session and amount:
                joules[session] = joules.get(session, 0.0) + amount
    for session, amount in joules.items():
        TrainingSession.objects.filter(pk=session).update(
            energy_joules=Coalesce(F("energy_joules"), Value(0.0), output_field=FloatField())
            + amount,
            energy_reason="",
        )


def explain_missing(
    sessions: Iterable[str], holders: Holders, gpus: Iterable[GpuReading], no_gpu: str | None
) -> None:
    """Say of the sessions without energy why they have none."""
    why = {gpu.uuid: gpu.reasons.get("energy_joules", "") for gpu in gpus}
    for session in sessions:
        held = [uuid for uuid, shares in holders.items() if session in shares]
        reason = no_gpu or (why.get(held[0], "") if held else ON_CPU)
        rows = TrainingSession.objects.filter(pk=session, energy_joules=None)
        rows.exclude(energy_reason=reason[:200]).update(energy_reason=reason[:200])
