"""What one would write by hand: FastAPI and the model; no keys, no batching."""

import os
from typing import Any

import uvicorn
from fastapi import Body, FastAPI
from texts import open_model

app = FastAPI()
answer = open_model()


@app.post("/predict")
async def predict(text: str = Body(embed=True)) -> dict[str, Any]:
    return {"answer": answer([text])[0]}


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["BENCH_PORT"]), log_level="warning", access_log=False)
