"""LitServe with batching."""

import os
from typing import Any

import litserve
from texts import open_model


class Bench(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.answer = open_model()

    def decode_request(self, request: dict[str, Any]) -> str:
        return str(request["text"])

    def batch(self, inputs: list[str]) -> list[str]:
        return inputs

    def predict(self, texts: list[str]) -> list[Any]:
        return self.answer(texts)

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def encode_response(self, answer: Any) -> dict[str, Any]:
        return {"answer": answer}


if __name__ == "__main__":
    api = Bench(max_batch_size=16, batch_timeout=0.005)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(port=int(os.environ["BENCH_PORT"]), log_level="warning", generate_client_file=False)
