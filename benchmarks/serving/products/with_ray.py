"""Ray Serve with batching."""

import os
from typing import Any

import numpy as np
from ray import serve
from session import open_session
from starlette.requests import Request


@serve.deployment(max_ongoing_requests=100)
class Bench:
    def __init__(self) -> None:
        self.session = open_session()

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.002)
    async def predict(self, rows: list[Any]) -> list[Any]:
        (y,) = self.session.run(None, {"x": np.asarray(rows, np.float32)})
        return list(y)

    async def __call__(self, request: Request) -> dict[str, Any]:
        asked = await request.json()
        y = await self.predict(asked["inputs"]["x"][0])
        return {"outputs": {"y": [y.tolist()]}}


if __name__ == "__main__":
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])})
    serve.run(Bench.bind(), route_prefix="/predict", blocking=True)
