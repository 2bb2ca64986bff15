"""A real model that somebody else exported (magika, Apache-2.0): the same answer at every door."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tritonclient.http as triton

from tests.inference.plane.conftest import Served

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("plane")]

REGISTER = """
from django.contrib.auth.models import User
from models_registry.services import register_version
register_version(
    name="magika", folder=__import__("pathlib").Path({folder!r}), framework="onnx", task="",
    owner=User.objects.get(username="admin"), metrics={{}}, lineage={{}},
)
"""


def find_model() -> Path:
    spec = importlib.util.find_spec("magika")
    assert spec is not None
    assert spec.origin is not None
    [found] = Path(spec.origin).parent.rglob("model.onnx")
    return found


def test_every_door_gives_the_answer_of_the_model_itself(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "magika" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(find_model().read_bytes())
    served.django(REGISTER.format(folder=str(path.parent)))

    rows = np.random.default_rng(0).integers(0, 256, (3, 2048), dtype=np.int32)
    session = onnxruntime.InferenceSession(path)
    [direct] = session.run(None, {"bytes": rows})

    with served.client() as client:
        assert client.post("/api/v1/models/load", json={"model_name": "magika"}).is_success
        asked: dict[str, Any] = {"model_name": "magika", "inputs": {"bytes": rows.tolist()}}
        answer = client.post("/api/v1/predict", json=asked).json()
    predicted = np.array(answer["outputs"]["target_label"], np.float32)
    np.testing.assert_allclose(predicted, direct, rtol=1e-4, atol=1e-6)
    assert predicted.argmax(axis=1).tolist() == direct.argmax(axis=1).tolist()
    for binary in (False, True):
        made = ask_by_protocol(served, rows, binary=binary)
        assert made.tolist() == predicted.tolist()
    with served.client() as client:
        assert client.post("/api/v1/models/magika/unload").status_code == 202


def ask_by_protocol(served: Served, rows: Any, *, binary: bool) -> Any:
    wanted = triton.InferInput("bytes", list(rows.shape), "INT32")
    wanted.set_data_from_numpy(rows, binary_data=binary)
    output = triton.InferRequestedOutput("target_label", binary_data=binary)
    client = triton.InferenceServerClient(served.url.removeprefix("http://"))
    try:
        headers = {"Authorization": f"Bearer {served.stack.key}"}
        made = client.infer("magika", [wanted], outputs=[output], headers=headers)
        return made.as_numpy("target_label")
    finally:
        client.close()
