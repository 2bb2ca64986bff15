"""How texts are asked of each server that is compared, and how it answers."""

import json
from typing import Any

from benchmarks.serving.servers import OURS, Asking, Server, product, this_server
from benchmarks.serving.text_models import CLASSIFIER, MIXED, WRITER

OPENAI = ("fastapi", "uvicorn", "openai", "pydantic", "rich", "typer")
"""What `transformers serve` wants besides torch."""


def _ours(model: str, text: str) -> Asking:
    if model == CLASSIFIER:
        asked = {"model_name": model, "inputs": {"text": [text]}, "outputs": ["probabilities"]}
        return "/api/v1/predict", json.dumps(asked).encode(), {}
    return _ours_written(model, text, stream=False)


def _ours_streamed(model: str, text: str) -> Asking:
    return _ours_written(model, text, stream=True)


def _ours_written(model: str, prompt: str, *, stream: bool) -> Asking:
    text, tokens = json.loads(prompt)
    asked = {"model": model, "prompt": text, "max_length": tokens, "temperature": 0}
    return "/api/v1/inference/generate", json.dumps({**asked, "stream": stream}).encode(), {}


def _read_ours(answer: Any) -> Any:
    if "outputs" in answer:
        return answer["outputs"]["probabilities"][0]
    return answer["completions"][0]


def _plain(model: str, text: str) -> Asking:
    return "/predict", json.dumps({"text": text}).encode(), {}


def _bento(model: str, text: str) -> Asking:
    return "/predict", json.dumps({"texts": [text]}).encode(), {}


def _protocol(model: str, text: str) -> Asking:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": [text]}
    return "/v2/models/bench/infer", json.dumps({"inputs": [tensor]}).encode(), {}


def _openai(model: str, text: str) -> Asking:
    return _openai_written(model, text, stream=False)


def _openai_streamed(model: str, text: str) -> Asking:
    return _openai_written(model, text, stream=True)


def _openai_written(model: str, prompt: str, *, stream: bool) -> Asking:
    text, tokens = json.loads(prompt)
    asked = {"model": model, "prompt": text, "max_tokens": tokens, "temperature": 0}
    return "/v1/completions", json.dumps({**asked, "stream": stream}).encode(), {}


def _read_protocol(answer: Any) -> Any:
    return json.loads(answer["outputs"][0]["data"][0])


SERVE_BOTH = [
    Server(OURS, this_server, _ours, _read_ours, _ours_streamed),
    Server(
        "hand-written FastAPI",
        product(
            "fastapi",
            ("fastapi", "uvicorn[standard]", "orjson"),
            "python",
            "{products}/texts_fastapi.py",
        ),
        _plain,
        lambda answer: answer["answer"],
    ),
    Server(
        "LitServe",
        product("litserve", ("litserve",), "python", "{products}/texts_litserve.py"),
        _plain,
        lambda answer: answer["answer"],
    ),
    Server(
        "BentoML",
        product(
            "bentoml",
            ("bentoml",),
            "bentoml",
            "serve",
            "texts_bentoml:Bench",
            "--working-dir",
            "{products}",
            "--port",
            "{port}",
        ),
        _bento,
        lambda answer: answer[0],
    ),
    Server(
        "MLServer (Seldon)",
        product("mlserver", ("mlserver",), "python", "{products}/texts_mlserver.py"),
        _protocol,
        _read_protocol,
    ),
    Server(
        "Ray Serve",
        product("ray", ("ray[serve]",), "python", "{products}/texts_ray.py", path="/predict"),
        _plain,
        lambda answer: answer["answer"],
    ),
]
SERVE_ONE = [
    Server(
        "transformers serve",
        product("transformers", OPENAI, "python", "{products}/texts_transformers.py"),
        _openai, lambda answer: answer["choices"][0]["text"], _openai_streamed,
    ),
    Server(
        "transformers serve, continuous",
        product("transformers", OPENAI, "python", "{products}/texts_transformers.py",
                "--continuous-batching"),
        _openai, lambda answer: answer["choices"][0]["text"], _openai_streamed,
    ),
]  # fmt: skip
SERVE_WRITERS = [*SERVE_BOTH, *SERVE_ONE]
TEXT_SERVERS = {CLASSIFIER: SERVE_BOTH, WRITER: SERVE_WRITERS, MIXED: SERVE_WRITERS}
