"""Seldon's MLServer with adaptive batching; its protocol is the Open Inference Protocol."""

import json
import os
from pathlib import Path

from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse
from texts import open_model

from mlserver import MLModel


class Bench(MLModel):
    async def load(self) -> bool:
        self.answer = open_model()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        answers = self.answer(StringCodec.decode_input(payload.inputs[0]))
        output = StringCodec.encode_output("answers", [json.dumps(each) for each in answers])
        return InferenceResponse(model_name=self.name, outputs=[output])


if __name__ == "__main__":
    folder = Path.cwd()
    settings = {"http_port": int(os.environ["BENCH_PORT"]), "host": "127.0.0.1", "grpc_port": 0}
    quiet = {"parallel_workers": 0, "debug": False, "metrics_endpoint": None}
    (folder / "settings.json").write_text(json.dumps({**settings, **quiet}))
    model = {"name": "bench", "implementation": "texts_mlserver.Bench"}
    batching = {"max_batch_size": 16, "max_batch_time": 0.005}
    (folder / "model-settings.json").write_text(json.dumps({**model, **batching}))
    os.execvp("mlserver", ["mlserver", "start", str(folder)])
