"""Exported programs answer as they do by themselves: in this process, and locked in a worker."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from torch import nn

from ml.formats.exported import take_exported
from ml.serve.errors import LoadRefused
from ml.serve.exported_runtime import ExportedRuntime
from ml.serve.runtimes import Options
from ml.serve.warmup import warm_up
from tests.ml.serve.models import list_files
from tests.ml.serve.workers import worker
from tests.models_registry.exported import WEIGHTS, exported_bytes

ROWS = torch.export.Dim("rows", max=8)


class Net(nn.Module):
    """A picture and a scale in, a dict of three types out; the constant is saved with it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
        )
        self.register_buffer("shift", torch.arange(3.0))

    def forward(self, image: torch.Tensor, *, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.body(image) * scale + self.shift + torch.tensor(0.5)
        return {"logits": logits, "label": logits.argmax(1), "half": logits.to(torch.bfloat16)}


def inputs(rows: int) -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(rows)
    image = random.standard_normal((rows, 1, 8, 8), np.float32)
    return {"image": image, "scale": random.standard_normal((rows, 1), np.float32)}


def save(module: nn.Module, path: Path, args: Any, kwargs: Any = None, shapes: Any = None) -> Path:
    program = torch.export.export(module.eval(), args, kwargs, dynamic_shapes=shapes)
    torch.export.save(program, path)
    return path


def take(brought: Path, folder: Path) -> ExportedRuntime:
    folder.mkdir()
    take_exported(brought, folder / "model.pt2")
    return ExportedRuntime(folder / "model.pt2", Options())


@pytest.fixture(scope="module")
def brought(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    one = {name: torch.from_numpy(array) for name, array in inputs(2).items()}
    path = tmp_path_factory.mktemp("exported") / "net.pt2"
    shapes = {"image": {0: ROWS}, "scale": {0: ROWS}}
    return save(Net(), path, (one["image"],), {"scale": one["scale"]}, shapes)


@functools.cache
def program_itself(path: Path) -> Any:
    return torch.export.load(path).module()


def direct(path: Path, given: dict[str, np.ndarray[Any, Any]]) -> dict[str, torch.Tensor]:
    tensors = {name: torch.from_numpy(array) for name, array in given.items()}
    answers: dict[str, torch.Tensor] = program_itself(path)(
        tensors["image"], scale=tensors["scale"]
    )
    return answers


def test_answers_equal_those_of_the_program_itself(brought: Path, tmp_path: Path) -> None:
    runtime = take(brought, tmp_path / "model")

    assert warm_up(runtime)
    assert runtime.signature.to_dict() == {
        "inputs": [
            {"name": "image", "datatype": "FP32", "shape": [-1, 1, 8, 8]},
            {"name": "scale", "datatype": "FP32", "shape": [-1, 1]},
        ],
        "outputs": [
            {"name": "logits", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "label", "datatype": "INT64", "shape": [-1]},
            {"name": "half", "datatype": "FP32", "shape": [-1, 3]},
        ],
    }
    for rows in (1, 2, 8):
        found = runtime.predict(inputs(rows), ["label", "logits", "half"])
        for name, wanted in direct(brought, inputs(rows)).items():
            assert np.array_equal(found[name], wanted.detach().float().numpy())


def test_a_locked_worker_joins_requests_up_to_the_limit_of_rows(
    brought: Path, tmp_path: Path
) -> None:
    take(brought, tmp_path / "model").close()
    folder = tmp_path / "model"
    with worker(folder, files=list_files(folder), memory_bytes=8 * 2**30) as started:
        assert started.wait_for("ready")["is_batchable"]
        with started.asking() as asker:
            for number in range(60):
                given = {name: array.tolist() for name, array in inputs(1 + number % 3).items()}
                asker.send({"kind": "predict", "id": number}, orjson.dumps(given))
            replies = {r["id"]: (r, body) for r, body in (asker.receive() for _ in range(60))}
            many = {name: array.tolist() for name, array in inputs(20).items()}
            reply, outputs = asker.predict(many)
    for number, (header, body) in replies.items():
        assert header["ok"], header
        assert header["batch_rows"] <= 8
        wanted = direct(brought, inputs(1 + number % 3))["logits"].detach().numpy()
        assert np.allclose(orjson.loads(body)["logits"], wanted, rtol=1e-4, atol=1e-5)
    assert any(header["batch_rows"] > 1 + number % 3 for number, (header, _) in replies.items())
    assert reply["ok"], reply
    assert len(outputs["label"]) == 20


class Centred(nn.Module):
    """Its rows look at each other; it writes into what it is given."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        centred = x - x.mean(0)
        return centred, x.abs()


def test_rows_that_look_at_each_other_are_not_joined(tmp_path: Path) -> None:
    x = torch.randn(3, 4)
    shapes = {"x": {0: torch.export.Dim("rows")}}
    runtime = take(save(Centred(), tmp_path / "a.pt2", (x,), shapes=shapes), tmp_path / "model")

    assert not warm_up(runtime)
    found = runtime.predict({"x": x.numpy()}, ["output_0", "output_1"])
    assert np.array_equal(found["output_0"], (x - x.mean(0)).numpy())
    assert np.array_equal(found["output_1"], x.abs().numpy())


def test_a_fixed_number_of_rows_stays_fixed(tmp_path: Path) -> None:
    runtime = take(save(nn.Linear(4, 2), tmp_path / "a.pt2", (torch.ones(3, 4),)), tmp_path / "m")

    assert not warm_up(runtime)
    assert runtime.signature.inputs[0].shape == (3, 4)


def test_a_program_made_by_hand_computes_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "a.pt2").write_bytes(exported_bytes())
    x = np.arange(8, dtype=np.float32).reshape(2, 4)

    found = take(tmp_path / "a.pt2", tmp_path / "model").predict({"x": x}, ["y"])
    assert np.array_equal(found["y"], np.maximum(x @ WEIGHTS, 0))


def test_an_operator_that_this_torch_does_not_know_is_told_with_both_versions(
    tmp_path: Path,
) -> None:
    def newer(program: dict[str, Any]) -> None:
        program["graph_module"]["graph"]["nodes"][1]["target"] = "torch.ops.aten.relu9.default"

    (tmp_path / "a.pt2").write_bytes(exported_bytes(newer))
    with pytest.raises(LoadRefused, match=r"cannot load what torch 2\.11\.0 exported"):
        take(tmp_path / "a.pt2", tmp_path / "model")
