"""POST /api/v1/inference/generate: text over HTTP, whole and as a stream."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.inference.plane.conftest import Served

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("texts")]

PATH = "/api/v1/inference/generate"
GREEDY = {"prompt": "add 1 2: ", "temperature": 0, "max_length": 12}


def send(served: Served, asked: dict[str, Any], key: str = "") -> httpx.Response:
    with served.client(key) as client:
        return client.post(PATH, json=asked)


def test_the_curl_line_of_document_000_works(served: Served) -> None:
    asked = {"prompt": "def fibonacci(n):", "max_length": 150, "temperature": 0.7}
    answer = send(served, {**asked, "top_p": 0.9, "num_return_sequences": 2})
    assert answer.status_code == 200, answer.text
    made = answer.json()
    assert len(made["generated_code"]) == 2
    assert all(text.startswith("def fibonacci(n):") for text in made["generated_code"])
    assert made["prompt"] == "def fibonacci(n):"
    assert made["model_name"] == "code_generator"
    assert made["device"] == "cpu"
    assert made["inference_time_ms"] > 0
    assert made["usage"]["total_tokens"] > made["usage"]["completion_tokens"] > 0
    assert set(made["finish_reasons"]) <= {"stop", "length"}


def test_a_stream_tells_the_same_text_piece_by_piece(served: Served) -> None:
    whole = send(served, GREEDY).json()
    with (
        served.client() as client,
        client.stream("POST", PATH, json={**GREEDY, "stream": True}) as s,
    ):
        assert s.headers["content-type"].startswith("text/event-stream")
        events = list(read_events(s.iter_lines()))
    *pieces, (last, done) = events
    assert {name for name, _ in pieces} <= {"piece"}
    assert last == "done"
    assert "".join(data["text"] for _, data in pieces) == whole["completions"][0]
    timed = {"inference_time_ms"}
    assert {k: v for k, v in done.items() if k not in timed} == {
        k: v for k, v in whole.items() if k not in timed
    }


def read_events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_a_seed_gives_the_same_text_again(served: Served) -> None:
    asked = {**GREEDY, "temperature": 1.5, "seed": 5}
    assert send(served, asked).json()["completions"] == send(served, asked).json()["completions"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_too_long_is_400_and_never_cut(served: Served, stream: bool) -> None:
    answer = send(served, {"prompt": "long " * 200, "stream": stream})
    assert (answer.status_code, answer.json()["code"]) == (400, "context_length_exceeded")
    assert answer.json()["errors"][0]["field"] == "prompt"


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"max_length": 513}, "max_length"),
        ({"temperature": 0.05}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_p": 1.1}, "top_p"),
        ({"num_return_sequences": 11}, "num_return_sequences"),
        ({"stop": [1]}, "stop"),
        ({"repetition_penalty": 2}, "repetition_penalty"),
    ],
)
def test_what_cannot_be_is_422_by_name(served: Served, asked: dict[str, Any], field: str) -> None:
    answer = send(served, {**GREEDY, **asked})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


def test_a_model_for_another_kind_of_work_says_so(served: Served) -> None:
    with served.client() as client:
        asked = {"model_name": "code-generator", "inputs": {"text": ["x"]}}
        answer = client.post("/api/v1/predict", json=asked)
    assert (answer.status_code, answer.json()["code"]) == (422, "not_offered")


def test_operators_load_by_asking_and_viewers_do_not(served: Served) -> None:
    asked = {**GREEDY, "model": "turner"}
    viewer = served.keys["viewer"]
    refused = send(served, asked, viewer)
    assert (refused.status_code, refused.json()["code"]) == (409, "not_loaded")
    made = send(served, asked)
    assert made.status_code == 200, made.text
    assert served.loaded()["turner"]["state"] == "ready"
    assert send(served, asked, viewer).json()["completions"] == made.json()["completions"]


def test_a_task_is_an_alias(served: Served) -> None:
    assert send(served, {**GREEDY, "task": "docstrings"}).status_code == 404
    with served.client() as client:
        put = client.put("/api/v1/models/code-generator/aliases/docstrings", json={"version": 1})
        assert put.status_code < 300, put.text
    made = send(served, {**GREEDY, "task": "docstrings"}).json()
    assert made["model_name"] == "code-generator@docstrings"


def test_a_stream_that_nobody_reads_is_not_written_on(served: Served) -> None:
    asked = {"prompt": "add", "max_length": 100, "num_return_sequences": 10, "stream": True}
    with served.client() as client, client.stream("POST", PATH, json=asked) as stream:
        next(stream.iter_lines())
    again = send(served, GREEDY)
    assert again.status_code == 200
