"""Counts predictions, for all web processes together, as monitoring.metering does for requests."""

from __future__ import annotations

from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
UNKNOWN = "unknown"

_own = CollectorRegistry()  # never asked: the files of all processes are read instead
HELP = {
    "inference_requests": "Requests for inference, by model; success or error.",
    "inference_latency_seconds": "Time from a request for inference to its answer, by model.",
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


class Answered(Protocol):
    """What the plane tells of an exchange."""

    model: str
    """Empty where no model was found: names that clients invent would be kept for ever."""
    status: int

    @property
    def seconds(self) -> float: ...


def count_answer(answered: Answered) -> None:
    is_error = answered.status >= 400
    requests.labels(answered.model or UNKNOWN, "error" if is_error else "success").inc()
    if answered.model and not is_error:
        latency.labels(answered.model).observe(answered.seconds)
