"""From a finished training to a prediction on a machine that has only PyTorch."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.test import Client

from ml.rundir import RunDir
from mlserver.lib.children import run_ml
from models_registry.services import read_header, register_version

PREDICT = """
import json, sys
import model
print(json.dumps(model.predict(".", json.load(sys.stdin))))
assert not {"ml", "django"} & set(sys.modules)
"""
SETOSA = (5.1, 3.5, 1.4, 0.2)  # lengths and widths of sepal and petal


def train_iris(tmp_path: Path) -> RunDir:
    """A real training in a child; milliseconds of learning, seconds of importing torch."""
    dataset = tmp_path / "iris"
    dataset.mkdir()
    run_ml("builtin_dataset", {"name": "iris", "folder": str(dataset)})
    run = RunDir(tmp_path / "train_1")
    run.create(
        {"session": "train_1", "dataset": {"path": str(dataset)}, "epochs": 20,
         "learning_rate": 0.02, "hidden_sizes": [8], "device": "cpu"}
    )  # fmt: skip
    subprocess.run(
        [sys.executable, "-P", "-m", "ml.train", str(run.path)],
        check=True, cwd=run.path, capture_output=True,
    )  # fmt: skip
    return run


def test_a_downloaded_model_predicts_in_plain_pytorch(
    owner: User, stranger: User, tmp_path: Path
) -> None:
    run = train_iris(tmp_path)
    result = run.read_result(1)
    assert result is not None
    version = register_version(
        name="iris-mlp", folder=run.model_path, owner=owner, task="classification",
        metrics=result["metrics"], lineage={"session": "train_1"},
    )  # fmt: skip
    assert read_header(version)["model.safetensors"]["parameter_count"] == 4 * 8 + 8 + 8 * 3 + 3

    client = Client()
    client.force_login(stranger)
    response: Any = client.get("/api/v1/models/iris-mlp/download")
    with zipfile.ZipFile(io.BytesIO(b"".join(response))) as archive:
        archive.extractall(tmp_path / "elsewhere")
    columns = json.loads((version.folder / "preprocess.json").read_text())["columns"]
    row = dict(zip(columns, SETOSA, strict=True))
    child = subprocess.run(
        [sys.executable, "-c", PREDICT],
        cwd=tmp_path / "elsewhere" / "iris-mlp-v1",
        input=json.dumps([row]), capture_output=True, text=True, check=True,
    )  # fmt: skip
    [answer] = json.loads(child.stdout)
    assert answer["label"] == "setosa"
