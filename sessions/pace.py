"""How long a training will take, from what this server's earlier ones took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from datasets.models import DatasetVersion
from jobs.models import State
from ml.estimate import count_steps
from sessions.models import TrainingSession

LOOKED_AT = 50  # of the newest
DECIDES_PACE = (
    "architecture",
    "hidden_sizes",
    "channels",
    "base_model",
    "max_length",
    "packing",
    "batch_size",
    "gradient_accumulation",
    "precision",
)


@dataclass(frozen=True, kw_only=True)
class Time:
    """Seconds from the start of its process to its end; the bounds are those of the others."""

    seconds: float | None = None
    low_seconds: float | None = None
    high_seconds: float | None = None
    sessions: int = 0
    alike: bool = False
    """Whether those had the same data and a model of the same size."""
    reason: str | None = None


@dataclass(frozen=True)
class Pace:
    """What one completed session says."""

    samples_per_second: float
    start_seconds: float
    is_alike: bool


def estimate_time(config: Mapping[str, Any], version: DatasetVersion, device: str) -> Time:
    """Null with a reason where nothing comparable was completed here.

    Samples are rows of the dataset here, also where several are packed into a block.
    """
    paces = [
        pace
        for session in _earlier(config["recipe"])
        if (pace := _pace(session, config, version, device))
    ]
    alike = [pace for pace in paces if pace.is_alike]
    used = alike or paces
    if not used:
        where = "a GPU" if device == "cuda" else "the CPU"
        reason = f"No session of recipe {config['recipe']} was completed on {where} here yet."
        return Time(reason=reason)
    samples = count_steps(config, version.sample_count).training_samples * config["epochs"]
    start = median(pace.start_seconds for pace in used)
    rates = [pace.samples_per_second for pace in used]
    return Time(
        seconds=start + samples / median(rates),
        low_seconds=start + samples / max(rates),
        high_seconds=start + samples / min(rates),
        sessions=len(used),
        alike=bool(alike),
    )


def _earlier(recipe: str) -> list[TrainingSession]:
    completed = TrainingSession.objects.filter(
        recipe=recipe, job__state=State.COMPLETED, job__attempt=1, dataset_version__isnull=False
    )
    newest = completed.select_related("job", "dataset_version").order_by("-job__finished_at")
    return list(newest[:LOOKED_AT])


def _pace(
    session: TrainingSession, config: Mapping[str, Any], version: DatasetVersion, device: str
) -> Pace | None:
    """None for one on another kind of device, or that does not say how long it took."""
    job, data = session.job, session.dataset_version
    trained_on = session.summary.get("environment", {}).get("device", "").partition(":")[0]
    seconds = (job.result or {}).get("duration_seconds")
    if trained_on != device or not seconds or not (data and job.started_at and job.finished_at):
        return None
    steps = count_steps(session.config, data.sample_count)
    whole = (job.finished_at - job.started_at).total_seconds()
    return Pace(
        samples_per_second=steps.training_samples * session.current_epoch / seconds,
        start_seconds=max(0.0, whole - seconds),
        is_alike=data == version
        and all(session.config.get(name) == config.get(name) for name in DECIDES_PACE),
    )
