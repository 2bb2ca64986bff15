"""Gathers what was recorded of a session and asks ml.diagnosis what stands out."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ml import hardware
from ml.diagnosis import PARTS, Facts, diagnose, split_time
from sessions.hardware import gpu_index, read_hardware
from sessions.metrics import find_not_finite, read_series
from sessions.models import TrainingSession

MOST_POINTS = 2000
MOST_MEANS = 200  # of buckets: enough for a mean, and the page asks at every epoch


def describe_diagnosis(session: TrainingSession) -> dict[str, Any]:
    """{findings, step_seconds: {part: mean seconds} or null, not_finite, basis}."""
    facts = gather_facts(session)
    return {
        "findings": [asdict(finding) for finding in diagnose(facts)],
        "step_seconds": split_time(facts),
        "not_finite": _describe_not_finite(facts.not_finite),
        "basis": {
            "epochs": len(facts.epochs),
            "steps": session.current_step,
            "gpu_readings": len(facts.gpu_busy_percent),
        },
    }


def gather_facts(session: TrainingSession) -> Facts:
    loss = read_series(session, "loss", max_points=MOST_POINTS)
    seconds = {name: read_series(session, name, max_points=MOST_MEANS).values for name in PARTS}
    rows = session.epoch_metrics.order_by("epoch").values(
        "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "extra"
    )
    has_gpu = gpu_index(session) is not None
    busy = read_hardware(session)["series"].get("gpu_busy_percent", []) if has_gpu else []
    return Facts(
        config=session.config,
        epochs=[dict(row) for row in rows],
        loss=_known(loss.maximum or loss.values),
        seconds={name: _known(values) for name, values in seconds.items()},
        checkpoint_seconds=(session.summary.get("checkpoint") or {}).get("seconds"),
        not_finite=find_not_finite(session),
        confusion=session.summary.get("confusion"),
        device=session.summary.get("environment", {}).get("device", ""),
        gpu_count=hardware.count_gpus(),
        gpu_busy_percent=_known(busy),
    )


def _known(values: list[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _describe_not_finite(found: tuple[str, int] | None) -> dict[str, Any] | None:
    return {"series": found[0], "step": found[1]} if found else None
