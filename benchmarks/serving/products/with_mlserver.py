"""Seldon's MLServer with adaptive batching; its protocol is the Open Inference Protocol."""

import json
import os
from pathlib import Path

import numpy as np
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from session import open_session

from mlserver import MLModel


class Bench(MLModel):
    async def load(self) -> bool:
        self.session = open_session()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        x = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        (y,) = self.session.run(None, {"x": x})
        output = NumpyCodec.encode_output("y", y)
        return InferenceResponse(model_name=self.name, outputs=[output])


if __name__ == "__main__":
    folder = Path.cwd()
    settings = {"http_port": int(os.environ["BENCH_PORT"]), "host": "127.0.0.1", "grpc_port": 0}
    quiet = {"parallel_workers": 0, "debug": False, "metrics_endpoint": None}
    (folder / "settings.json").write_text(json.dumps({**settings, **quiet}))
    model = {"name": "bench", "implementation": "with_mlserver.Bench"}
    batching = {"max_batch_size": 32, "max_batch_time": 0.002}
    (folder / "model-settings.json").write_text(json.dumps({**model, **batching}))
    os.execvp("mlserver", ["mlserver", "start", str(folder)])
