"""How much memory models may take, how much one will take, and who goes for another one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import psutil
from django.conf import settings

from ml.hardware import GpuReader
from mlserver.lib.errors import NoSpace
from models_registry.models import ModelVersion

MEGABYTE = 10**6
SHARE_OF_FREE = 0.8
# Measured: what a worker takes before its model, with onnxruntime, torch, and torch's compiler,
# which comes with transformers and torch.export.
EMPTY_ONNX_BYTES, EMPTY_TORCH_BYTES, EMPTY_COMPILER_BYTES = (
    60 * MEGABYTE,
    220 * MEGABYTE,
    330 * MEGABYTE,
)


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A model in memory, as far as room is concerned."""

    key: int
    name: str
    size_bytes: int
    used_at: float
    may_go: bool
    """Neither busy, nor loading, nor pinned."""


def find_budget(device: str) -> int:
    """Bytes for all models of a device: MODEL_MEMORY_MB, else a share of what is free now."""
    if settings.MODEL_MEMORY_MB:
        return int(settings.MODEL_MEMORY_MB * MEGABYTE)
    return int(SHARE_OF_FREE * _free_bytes(device))


def _free_bytes(device: str) -> int:
    if device == "cpu":
        return int(psutil.virtual_memory().available)
    gpus, reason = GpuReader().read()
    gpu = gpus[int(device.partition(":")[2])] if gpus else None
    if gpu is None or gpu.memory_total_bytes is None or gpu.memory_used_bytes is None:
        raise NoSpace(f"The memory of {device} cannot be read ({reason}); set MODEL_MEMORY_MB.")
    return gpu.memory_total_bytes - gpu.memory_used_bytes


def choose_device(asked: str) -> str:
    """`auto` is the first GPU, or the CPU where there is none."""
    if asked == "auto":
        return "cuda:0" if GpuReader().read()[0] else "cpu"
    return "cuda:0" if asked == "cuda" else asked


def estimate_bytes(version: ModelVersion) -> int:
    """What a version will take; weights are read once and kept as they are."""
    if any(file["path"].endswith(".onnx") for file in version.files):
        return version.size_bytes + EMPTY_ONNX_BYTES
    has_compiler = version.framework in ("transformers", "torch.export")
    return version.size_bytes + (EMPTY_COMPILER_BYTES if has_compiler else EMPTY_TORCH_BYTES)


def choose_leavers(
    holders: Iterable[Holder], *, needed_bytes: int, budget_bytes: int, most: int
) -> list[Holder]:
    """Who must go, the longest unused first, so that one more fits.

    Raises NoSpace with the numbers where that is impossible; then nobody needs to go.
    """
    staying = sorted(holders, key=lambda holder: holder.used_at)
    leaving: list[Holder] = []
    candidates = [holder for holder in staying if holder.may_go]

    def fits() -> bool:
        left = [holder for holder in staying if holder not in leaving]
        taken = sum(holder.size_bytes for holder in left)
        return taken + needed_bytes <= budget_bytes and len(left) < most

    while not fits():
        if not candidates:
            raise NoSpace(_explain(staying, needed_bytes, budget_bytes, most))
        leaving.append(candidates.pop(0))
    return leaving


def _explain(holders: list[Holder], needed: int, budget: int, most: int) -> str:
    taken = sum(holder.size_bytes for holder in holders)
    kept = ", ".join(holder.name for holder in holders if not holder.may_go) or "none"
    return (
        f"The model needs about {_mb(needed)} MB; of {_mb(budget)} MB for models {_mb(taken)} are"
        f" taken by {len(holders)} of at most {most}. Pinned, loading or busy: {kept}."
        " Unload a model, or raise MODEL_MEMORY_MB or MAX_LOADED_MODELS."
    )


def _mb(size: int) -> int:
    return round(size / MEGABYTE)
