"""POST /api/v1/predict: a model in memory answers named inputs, or rows."""

from __future__ import annotations

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

PATH = "/api/v1/predict"


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
    asked = _read(call.json())
    loaded = await find_or_load(asked["model_name"], call.caller.user)
    started = time.perf_counter()
    facts, outputs = await workers.ask(
        loaded,
        call.body,  # whole: what is large in it need not be written anew
        member="inputs",
        timeout_seconds=asked["timeout_seconds"],
        batch_rows=asked["batch_size"],
        outputs=asked["outputs"],
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


def _read(body: Any) -> dict[str, Any]:
    """What is plainly right costs no serializer; the serializer judges everything else."""
    if (
        type(body) is dict
        and body.keys() <= {"model_name", "inputs"}
        and type(name := body.get("model_name")) is str
        and type(inputs := body.get("inputs")) in (dict, list)
        and inputs
        and 0 < len(name) <= 200
        and name.isprintable()
        and name == name.strip()
    ):
        return {
            "model_name": name,
            "inputs": inputs,
            "outputs": None,
            "timeout_seconds": 30.0,
            "batch_size": None,
            "return_metadata": False,
        }
    asked = PredictSerializer(data=body)
    asked.is_valid(raise_exception=True)
    return dict(asked.validated_data)


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
