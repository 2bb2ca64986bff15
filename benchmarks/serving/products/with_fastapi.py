"""What one would write by hand: FastAPI, orjson, the session; no keys, no batching."""

import os

import numpy as np
import orjson
import uvicorn
from fastapi import FastAPI, Request, Response
from session import open_session

app = FastAPI()
session = open_session()
shape = session.get_inputs()[0].shape[1:]


@app.post("/predict")
async def predict(request: Request) -> Response:
    asked = orjson.loads(await request.body())
    (y,) = session.run(None, {"x": np.asarray(asked["inputs"]["x"], np.float32)})
    return Response(orjson.dumps({"outputs": {"y": y.tolist()}}), media_type="application/json")


@app.post("/binary")
async def binary(request: Request) -> Response:
    x = np.frombuffer(await request.body(), np.float32).reshape(-1, *shape)
    (y,) = session.run(None, {"x": x})
    return Response(y.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["BENCH_PORT"]), log_level="warning", access_log=False)
