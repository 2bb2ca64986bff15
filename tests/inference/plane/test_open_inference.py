"""The Open Inference Protocol, spoken by the real client of NVIDIA's Triton and by hand."""

import asyncio
import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio

from tests.inference.plane.conftest import Served

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("plane")]

ROW = np.array([[1, 2, 3, 4]], np.float32)
INFER = "/v2/models/small/infer"


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    with served.client(served.keys["viewer"]) as made:
        yield made


@pytest.fixture
def real(served: Served) -> Iterator[Any]:
    made = triton.InferenceServerClient(served.url.removeprefix("http://"))
    yield made
    made.close()


@pytest.fixture
def headers(served: Served) -> dict[str, str]:
    return {"Authorization": f"Bearer {served.stack.key}"}


def tensor(**more: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4], **more}


def expected(served: Served) -> Any:
    with served.client() as client:
        asked = {"model_name": "small", "inputs": {"x": ROW.tolist()}}
        answer = client.post("/api/v1/predict", json=asked).json()
    return np.array(answer["outputs"]["y"], np.float32).tolist()


def wanted(*, binary: bool) -> Any:
    made = triton.InferInput("x", [1, 4], "FP32")
    made.set_data_from_numpy(ROW, binary_data=binary)
    return made


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
@pytest.mark.parametrize("packing", [None, "gzip", "deflate"])
def test_the_real_client_gets_what_predict_answers(
    served: Served,
    real: Any,
    headers: dict[str, str],
    binary_in: bool,
    binary_out: bool | None,
    packing: str | None,
) -> None:
    outputs = None
    if binary_out is not None:
        outputs = [triton.InferRequestedOutput("y", binary_data=binary_out)]
    made = real.infer(
        "small",
        [wanted(binary=binary_in)],
        outputs=outputs,
        request_id="seven",
        headers=dict(headers),
        request_compression_algorithm=packing,
        response_compression_algorithm=packing,
    )
    assert made.as_numpy("y").tolist() == expected(served)
    assert made.get_response()["id"] == "seven"
    assert made.get_response()["model_version"] == "1"


def test_the_real_asynchronous_client(served: Served, headers: dict[str, str]) -> None:
    async def ask() -> Any:
        client = triton_aio.InferenceServerClient(served.url.removeprefix("http://"))
        try:
            assert await client.is_server_live()
            assert await client.is_model_ready("small", headers=headers)
            made = await client.infer("small", [wanted(binary=True)], headers=headers)
            return made.as_numpy("y").tolist()
        finally:
            await client.close()

    assert asyncio.run(ask()) == expected(served)


def test_the_real_client_reads_what_there_is(real: Any, headers: dict[str, str]) -> None:
    assert real.is_server_live()
    assert real.is_server_ready()
    assert real.get_server_metadata(headers=headers)["name"] == "mlserver"
    assert real.is_model_ready("small", headers=headers)
    assert real.is_model_ready("small", "1", headers=headers)
    assert not real.is_model_ready("resting", headers=headers)
    assert not real.is_model_ready("nobody", headers=headers)
    metadata = real.get_model_metadata("small", headers=headers)
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert metadata["versions"] == ["1"]
    states = {e["name"]: e["state"] for e in real.get_model_repository_index(headers=headers)}
    known = {name: states[name] for name in ("small", "large", "words", "resting")}
    assert known == {
        "small": "READY", "large": "READY", "words": "READY", "resting": "UNAVAILABLE",
    }  # fmt: skip


def test_the_real_client_loads_and_unloads(
    served: Served, real: Any, headers: dict[str, str]
) -> None:
    real.load_model("guest", headers=headers)
    assert real.is_model_ready("guest", headers=headers)
    real.unload_model("guest", headers=headers)
    with pytest.raises(triton.InferenceServerException, match="not supported"):
        real.load_model("guest", headers=headers, config="{}")
    viewer = {"Authorization": f"Bearer {served.keys['viewer']}"}
    with pytest.raises(triton.InferenceServerException, match="role operator"):
        real.load_model("guest", headers=viewer)


@pytest.mark.parametrize("binary", [True, False])
def test_strings_come_and_go(real: Any, headers: dict[str, str], binary: bool) -> None:
    words = np.array([["Zoë", ""], ["a\0b", "木"]], dtype=object)
    asked = triton.InferInput("x", [2, 2], "BYTES")
    asked.set_data_from_numpy(words, binary_data=binary)
    output = triton.InferRequestedOutput("y", binary_data=binary)
    made = real.infer("words", [asked], outputs=[output], headers=headers)
    got = made.as_numpy("y")
    assert [word.decode() if binary else word for word in got.flat] == list(words.flat)


def test_the_real_client_is_told_why_it_is_refused(real: Any, headers: dict[str, str]) -> None:
    strange = triton.InferInput("z", [1, 4], "FP32")
    strange.set_data_from_numpy(ROW)
    with pytest.raises(triton.InferenceServerException, match="There is no input"):
        real.infer("small", [strange], headers=headers)
    with pytest.raises(triton.InferenceServerException, match="needs a key"):
        real.infer("small", [wanted(binary=True)])


def test_a_model_that_is_named_twice_is_named_the_same(client: httpx.Client) -> None:
    assert client.post(INFER, json={"inputs": [tensor()], "model_name": "small"}).is_success
    other = client.post(INFER, json={"inputs": [tensor()], "model_name": "other"})
    assert (other.status_code, other.headers["content-type"]) == (400, "application/json")
    assert "'small'" in other.json()["error"]


def test_nested_and_flat_data_are_the_same(served: Served, client: httpx.Client) -> None:
    for data in ([1, 2, 3, 4], [[1, 2, 3, 4]]):
        made = client.post(INFER, json={"inputs": [tensor(data=data)]}).json()
        assert made["outputs"][0]["shape"] == [1, 3]
        assert [made["outputs"][0]["data"]] == expected(served)
    made = client.post("/v2/models/small/versions/1/infer", json={"inputs": [tensor()]})
    assert made.json()["model_version"] == "1"


def refused(**more: Any) -> dict[str, Any]:
    return {"inputs": [tensor()], **more}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "not valid JSON"),
        (b"[]", "JSON object"),
        ({}, "inputs must be"),
        ({"inputs": [tensor(shape=[1, 3])]}, "does not have the shape"),
        ({"inputs": [tensor(data=[[1, 2, 3], [4]])]}, "does not have the shape"),
        ({"inputs": [tensor(shape=[4], data=[1, 2, 3, 4])]}, "the model takes [-1, 4]"),
        ({"inputs": [tensor(datatype="FP64")]}, "the model takes FP32"),
        ({"inputs": [tensor(datatype="FP16")]}, "as binary data"),
        ({"inputs": [tensor(datatype="FP7")]}, "unknown datatype"),
        ({"inputs": [tensor(data=["1", "2", "3", "4"])]}, "no FP32"),
        ({"inputs": [tensor(data=[1, 2, 3, 1e300])]}, "no FP32"),
        ({"inputs": [tensor(parameters={"binary_data_size": 16})]}, "either data or"),
        ({"inputs": [tensor(parameters={"shared_memory_region": "r"})]}, "'shared_memory_region'"),
        (refused(parameters={"sequence_id": 7}), "'sequence_id'"),
        (refused(parameters={"timeout": -1}), "microseconds"),
        (refused(outputs=[{"name": "z"}]), "There is no output 'z'"),
        (refused(outputs=[{"name": "y", "parameters": {"classification": 3}}]), "'classification'"),
        (refused(priority=1), "'priority'"),
    ],
)
def test_what_is_not_supported_is_refused_with_its_name(
    client: httpx.Client, body: Any, told: str
) -> None:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(INFER, content=sent)
    assert answer.status_code == 400, answer.text
    assert told in answer.json()["error"]


@pytest.mark.parametrize(
    ("content", "headers", "told"),
    [
        (b"{}", {"Inference-Header-Content-Length": "99"}, "length of the JSON"),
        (b"{}", {"Inference-Header-Content-Length": "-1"}, "length of the JSON"),
        (b"{}", {"Content-Encoding": "br"}, "gzip and deflate are"),
        (b"{}", {"Content-Encoding": "gzip"}, "not valid gzip"),
        (gzip.compress(b"{}", mtime=0)[:-4], {"Content-Encoding": "gzip"}, "ends too early"),
    ],
)
def test_broken_bodies_are_refused(
    client: httpx.Client, content: bytes, headers: dict[str, str], told: str
) -> None:
    answer = client.post(INFER, content=content, headers=headers)
    assert answer.status_code == 400, answer.text
    assert told in answer.json()["error"]


def test_a_body_that_would_burst_is_refused(client: httpx.Client) -> None:
    bomb = zlib.compress(b" " * (100 * 2**20), 9)
    answer = client.post(INFER, content=bomb, headers={"Content-Encoding": "deflate"})
    assert answer.status_code == 413


def test_models_that_do_not_answer(client: httpx.Client) -> None:
    body = {"inputs": [tensor()]}
    assert client.post("/v2/models/nobody/infer", json=body).status_code == 404
    answer = client.post("/v2/models/resting/infer", json=body)
    assert answer.status_code == 404
    assert "models/load" in answer.json()["error"]
    assert client.get("/v2/models/nobody").json()["error"]
    assert client.get("/v2/models/resting/ready").json() == {"name": "resting", "ready": False}
    assert client.get("/v2/nothing").json()["error"]
