"""Loading, predicting and unloading as document 004 writes it, at its own paths."""

from pathlib import Path

import pytest
import torch
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings
from safetensors.torch import load_file

from inference.models import LoadedModel, State
from models_registry.models import ModelVersion
from tests.inference.conftest import Ticking, ask
from tests.inference.test_api import send
from tests.ml.serve.models import write_network, write_onnx


@pytest.fixture
def shelf(settings: Settings, tmp_path: Path) -> Path:
    """A folder of models beside the server."""
    folder = tmp_path / "shelf"
    write_onnx(folder).rename(folder / "small.onnx")
    settings.MODEL_IMPORT_DIRS = [folder]
    return folder


def test_a_file_is_loaded_by_its_path_and_is_not_touched(
    manager: Ticking, owner: User, shelf: Path
) -> None:
    path = shelf / "small.onnx"
    before = path.read_bytes()
    wish = {"path": str(path), "model_name": "tiny", "device": "auto", "wait_seconds": 0}
    assert send(owner, "/models/load", wish).status_code == 202
    manager.until_state(LoadedModel.objects.get(), State.READY)

    answer = send(owner, "/models/load", wish)
    assert answer.status_code == 200, answer.content
    told = answer.json()
    assert (told["success"], told["model_name"], told["memory_mb"] > 10) == (True, "tiny", True)
    metadata = {
        "framework": "onnx",
        "provider": "cpu",
        "input_names": ["x"],
        "output_names": ["y"],
        "input_shapes": [[-1, 4]],
        "output_shapes": [[-1, 3]],
    }
    assert told["metadata"] == metadata
    assert len(ask("tiny", {"x": [[1, 2, 3, 4]]})["y"][0]) == 3
    assert ModelVersion.objects.count() == 1, "the same file twice is the same version"

    client = Client()
    client.force_login(owner)
    assert client.delete("/models/tiny").status_code in (200, 204)
    manager.until(lambda: not manager.workers)
    assert path.read_bytes() == before


def test_weights_of_torch_save_beside_their_network_are_served(
    manager: Ticking, owner: User, shelf: Path
) -> None:
    folder = write_network(shelf / "colours")
    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "weights.pth")
    weights.unlink()
    send(owner, "/models/load", {"path": "colours", "wait_seconds": 0})
    manager.until_state(LoadedModel.objects.get(), State.READY)

    rows = [{"x": 1.0, "colour": "red"}]
    assert set(ask("colours", rows)["label"]) <= {"no", "yes"}
    assert (folder / "weights.pth").is_file()


def test_a_name_is_found_where_none_is_given(manager: Ticking, owner: User, shelf: Path) -> None:
    answer = send(owner, "/models/load", {"path": "small.onnx", "wait_seconds": 0})
    assert (answer.status_code, answer.json()["model_name"]) == (202, "small")


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../outside.onnx", "nothing.onnx", "link.onnx", ".hidden.onnx", "a\0b"]
)
def test_what_lies_elsewhere_is_not_found(
    manager: Ticking, owner: User, shelf: Path, path: str
) -> None:
    write_onnx(shelf.parent / "o").rename(shelf.parent / "outside.onnx")
    (shelf / "link.onnx").symlink_to(shelf.parent / "outside.onnx")
    write_onnx(shelf / "h").rename(shelf / ".hidden.onnx")
    answer = send(owner, "/models/load", {"path": path, "model_name": "x"})
    assert answer.status_code in (400, 404, 422), answer.content
    assert "passwd" not in str(ModelVersion.objects.all())


def test_a_pickle_is_refused_and_nothing_is_left(
    manager: Ticking, owner: User, shelf: Path
) -> None:
    (shelf / "model.pth").write_bytes(b"\x80\x04K\x01.")
    answer = send(owner, "/models/load", {"path": "model.pth"})
    assert answer.status_code == 422
    assert not ModelVersion.objects.exists()
    assert not LoadedModel.objects.exists()


def test_without_name_and_path_it_says_what_is_missing(db: None, owner: User) -> None:
    answer = send(owner, "/models/load", {})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "model_name"


def test_compression_is_refused_by_its_name(db: None, owner: User) -> None:
    asked = {"model_name": "x", "compression": {"quantization": "int8"}}
    answer = send(owner, "/models/load", asked)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "compression"
