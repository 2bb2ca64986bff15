"""POST /api/v1/predict: a model in memory answers named inputs, or rows."""

from __future__ import annotations

import re
import time
from typing import Any

import orjson
from drf_spectacular.utils import OpenApiExample

from inference.demand import find_or_load
from inference.models import LoadedModel
from inference.plane.routes import Call, Door, Reply, Route, described
from inference.plane.workers import workers
from inference.serializers import PredictionSerializer, PredictSerializer
from ml.serve.frames import Header
from mlserver.lib.errors import Invalid

PATH = "/api/v1/predict"
BEGINNING = re.compile(rb'\s*\{\s*"model_name"\s*:\s*"([^"\\]{1,200})"\s*,\s*"inputs"\s*:')
AS_IT_IS = {
    "outputs": None,
    "timeout_seconds": 30.0,
    "batch_size": None,
    "return_metadata": False,
}
"""What a request asks for that names a model and inputs, and nothing else."""


@described(
    summary="Predict",
    request=PredictSerializer,
    responses=PredictionSerializer,
    examples=[
        OpenApiExample(
            "a row of a table",
            value={
                "model_name": "iris",
                "inputs": [
                    {
                        "sepal_length_cm": 5.1,
                        "sepal_width_cm": 3.5,
                        "petal_length_cm": 1.4,
                        "petal_width_cm": 0.2,
                    }
                ],
            },
            request_only=True,
        )
    ],
)
class PredictView(Door):
    """Named inputs, or rows. A model that is not in memory is loaded first, for operators; for
    others that is 409. 503 with Retry-After while the model's queue is full or its
    worker is replaced, 504 when `timeout_seconds` are over."""


async def predict(call: Call) -> Reply:
    call.require_json()
    name = _glance(call.body)
    if name is not None:
        try:
            return await _ask(call, {**AS_IT_IS, "model_name": name}, beside={"model_name": name})
        except Invalid as error:
            if error.code != "invalid_input":
                raise  # it was understood, and computed once
            # The serializer has better words for it, and knows what else may be there.
    asked = PredictSerializer(data=call.json())
    asked.is_valid(raise_exception=True)
    return await _ask(call, asked.validated_data)


async def _ask(call: Call, asked: dict[str, Any], **header: Any) -> Reply:
    loaded = await find_or_load(asked["model_name"], call.caller.user)
    started = time.perf_counter()
    facts, outputs = await workers.ask(
        loaded,
        call.body,  # whole: what is large in it need not be written anew
        member="inputs",
        timeout_seconds=asked["timeout_seconds"],
        batch_rows=asked["batch_size"],
        outputs=asked["outputs"],
        **header,
    )
    seconds = time.perf_counter() - started
    answer = {
        "success": True,
        "model_name": loaded.version.model.name,
        "version": loaded.version.number,
        "outputs": orjson.Fragment(outputs),
        "latency_ms": round(seconds * 1000, 3),
        "metadata": _describe(loaded, facts) if asked["return_metadata"] else None,
    }
    return Reply(orjson.dumps(answer), model=str(loaded))


def _glance(body: bytes) -> str | None:
    """The model's name, where a body begins as most do and the model was asked a moment ago.

    Whether it goes on like that is seen by the worker, who reads the numbers anyway.
    """
    found = BEGINNING.match(body)
    if found is None:
        return None
    name = found[1].decode(errors="replace")
    return name if name in workers else None


def _describe(loaded: LoadedModel, facts: Header) -> dict[str, Any]:
    version = loaded.version
    return {
        "framework": version.framework,
        "task": version.task,
        "device": loaded.device,
        "queue_ms": round(facts["queue_seconds"] * 1000, 3),
        "compute_ms": round(facts["compute_seconds"] * 1000, 3),
        "batch_rows": facts["batch_rows"],
    }


_view = PredictView.as_view()
ROUTES = [Route("POST", path, _view, predict) for path in (PATH, "/predict")]
