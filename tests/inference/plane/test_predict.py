"""Predictions over HTTP through the data plane: answers and refusals."""

from typing import Any

import pytest

from tests.inference.plane.conftest import Served

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("plane")]

ROWS = {"x": [[1, 2, 3, 4]]}


def test_a_model_in_memory_answers(served: Served) -> None:
    with served.client(served.keys["viewer"]) as client:
        asked = {"model_name": "small", "inputs": ROWS}
        answer = client.post("/api/v1/predict", json=asked)
        assert answer.status_code == 200, answer.text
        made = answer.json()
        assert (made["success"], made["model_name"], made["version"]) == (True, "small", 1)
        assert len(made["outputs"]["y"][0]) == 3
        assert made["latency_ms"] > 0
        assert made["metadata"] is None
        more = client.post("/api/v1/predict/", json={**asked, "return_metadata": True}).json()
        assert more["outputs"] == made["outputs"]
        assert more["metadata"]["batch_rows"] == 1


def test_batch_size_is_what_one_call_of_the_engine_takes(served: Served) -> None:
    rows = {"x": [[n, 0, 0, 0] for n in range(5)]}
    asked = {"model_name": "small", "inputs": rows}
    with served.client() as client:
        whole = client.post("/predict", json=asked).json()["outputs"]["y"]
        parts = client.post("/predict", json={**asked, "batch_size": 2}).json()["outputs"]["y"]
        refused = client.post("/predict", json={**asked, "batch_size": 129})
    assert parts == [pytest.approx(row, rel=1e-5) for row in whole]
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "batch_size")


def test_the_path_of_document_004_works_at_the_root(served: Served) -> None:
    with served.client() as client:
        answer = client.post("/predict", json={"model_name": "small", "inputs": ROWS})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("inputs", "status", "field"),
    [
        ({"x": [[1, 2]]}, 422, "inputs.x"),
        ({"z": [[1, 2, 3, 4]]}, 422, "inputs.z"),
        ({}, 422, "inputs"),
        ("text", 422, "inputs"),
        ({"x": [[0] * 4] * 4097}, 413, None),
    ],
)
def test_inputs_that_do_not_fit_are_refused_with_their_name(
    served: Served, inputs: Any, status: int, field: str | None
) -> None:
    with served.client() as client:
        answer = client.post("/api/v1/predict", json={"model_name": "small", "inputs": inputs})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert [error["field"] for error in problem["errors"]] == ([] if field is None else [field])
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert (problem["success"], problem["error"]) == (False, problem["detail"])


def test_a_viewer_is_told_how_a_model_gets_loaded(served: Served) -> None:
    with served.client(served.keys["viewer"]) as client:
        answer = client.post("/api/v1/predict", json={"model_name": "resting", "inputs": ROWS})
        assert (answer.status_code, answer.json()["code"]) == (409, "not_loaded")
        assert "models/load" in answer.json()["detail"]
        nobody = client.post("/api/v1/predict", json={"model_name": "nobody", "inputs": ROWS})
        assert nobody.status_code == 404


def test_a_deadline_missed_is_504(served: Served) -> None:
    asked = {
        "model_name": "large",
        "inputs": {"x": [[1, 2, 3, 4]] * 4096},
        "timeout_seconds": 0.001,
    }
    with served.client() as client:
        answer = client.post("/api/v1/predict", json=asked)
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_missed")
