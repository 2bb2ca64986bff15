"""LitServe with batching."""

import os
from typing import Any

import litserve
import numpy as np
from session import open_session


class Bench(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.session = open_session()

    def decode_request(self, request: dict[str, Any]) -> np.ndarray:
        return np.asarray(request["inputs"]["x"][0], np.float32)

    def predict(self, x: np.ndarray) -> np.ndarray:
        (y,) = self.session.run(None, {"x": x})
        return y

    def encode_response(self, y: np.ndarray) -> dict[str, Any]:
        return {"outputs": {"y": [y.tolist()]}}


if __name__ == "__main__":
    api = Bench(max_batch_size=32, batch_timeout=0.002)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(port=int(os.environ["BENCH_PORT"]), log_level="warning", generate_client_file=False)
