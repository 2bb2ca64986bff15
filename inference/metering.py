"""Counts predictions and loads, for all processes together (see monitoring.metering)."""

from __future__ import annotations

from functools import cache
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
UNKNOWN = "unknown"

_own = CollectorRegistry()  # never asked: the files of all processes are read instead
HELP = {
    "inference_requests": "Requests for inference, by model; success or error.",
    "inference_latency_seconds": "Time from a request for inference to its answer, by model.",
    "model_operations": "Models loaded and unloaded; success or error.",
    "model_load_latency_seconds": "Time from the start of a worker until its model answers.",
}
requests = Counter(
    "inference_requests", HELP["inference_requests"], ["model_name", "status"], registry=_own
)
latency = Histogram(
    "inference_latency_seconds",
    HELP["inference_latency_seconds"],
    ["model_name"],
    buckets=BUCKETS,
    registry=_own,
)
# To find what to count in would take as long again as to count.
_requests_of, _latency_of = cache(requests.labels), cache(latency.labels)

operations = Counter(
    "model_operations", HELP["model_operations"], ["operation", "status"], registry=_own
)
load_latency = Histogram(
    "model_load_latency_seconds",
    HELP["model_load_latency_seconds"],
    buckets=(0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
    registry=_own,
)


class Answered(Protocol):
    """What the plane tells of an exchange."""

    model: str
    """Empty where no model was found: names that clients invent would be kept for ever."""
    status: int

    @property
    def seconds(self) -> float: ...


def count_answer(answered: Answered) -> None:
    is_error = answered.status >= 400
    _requests_of(answered.model or UNKNOWN, "error" if is_error else "success").inc()
    if answered.model and not is_error:
        _latency_of(answered.model).observe(answered.seconds)
