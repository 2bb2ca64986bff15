"""BentoML with adaptive batching."""

from typing import Any

import bentoml
from texts import open_model


@bentoml.service(workers=1, metrics={"enabled": False}, traffic={"timeout": 60})
class Bench:
    def __init__(self) -> None:
        self.answer = open_model()

    @bentoml.api(batchable=True, max_batch_size=16, max_latency_ms=10_000, route="/predict")
    def predict(self, texts: list[str]) -> list[Any]:
        return self.answer(texts)
