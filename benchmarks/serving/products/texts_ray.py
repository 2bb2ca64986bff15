"""Ray Serve with batching."""

import os
from typing import Any

from ray import serve
from starlette.requests import Request
from texts import open_model


@serve.deployment(max_ongoing_requests=100)
class Bench:
    def __init__(self) -> None:
        self.answer = open_model()

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.005)
    async def predict(self, texts: list[str]) -> list[Any]:
        return self.answer(texts)

    async def __call__(self, request: Request) -> dict[str, Any]:
        asked = await request.json()
        return {"answer": await self.predict(asked["text"])}


if __name__ == "__main__":
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])})
    serve.run(Bench.bind(), route_prefix="/predict", blocking=True)
