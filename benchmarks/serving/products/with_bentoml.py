"""BentoML with adaptive batching."""

from typing import Any

import bentoml
import numpy as np
from session import open_session


@bentoml.service(workers=1, metrics={"enabled": False})
class Bench:
    def __init__(self) -> None:
        self.session = open_session()

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=1000, route="/predict")
    def predict(self, x: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray:
        (y,) = self.session.run(None, {"x": np.asarray(x, np.float32)})
        return y
