"""The trainer learns from images in a ZIP and from Parquet as from anything else."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml.data.importer import import_dataset
from ml.rundir import RunDir
from tests.ml.data.archives import picture, zip_of


def write_images(path: Path) -> None:
    """Dark and bright: a network tells them apart at once."""
    shades = {"dark": 40, "bright": 200}
    members = {
        f"{name}/{n}.png": picture(12, 10, colour=shade + n)
        for name, shade in shades.items()
        for n in range(30)
    }
    zip_of(path, members)


def write_table(path: Path) -> None:
    x = np.linspace(-1, 1, 60)
    pq.write_table(pa.table({"x": x, "label": np.where(x > 0, "b", "a")}), path)


@pytest.mark.parametrize(("write", "kind"), [(write_images, "image"), (write_table, "table")])
def test_it_learns_from(tmp_path: Path, write: object, kind: str) -> None:
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    assert callable(write)
    write(dataset / "upload")
    assert import_dataset(dataset, "upload")["kind"] == kind
    run = RunDir(tmp_path / "train_1")
    run.create(
        {"session": "train_1", "dataset": {"path": str(dataset)}, "epochs": 8, "batch_size": 16,
         "learning_rate": 0.02, "hidden_sizes": [8], "device": "cpu"}
    )  # fmt: skip
    subprocess.run(
        [sys.executable, "-P", "-m", "ml.train", str(run.path)],
        check=True, cwd=run.path, capture_output=True,
    )  # fmt: skip

    result = run.read_result(1)
    assert result is not None
    assert result["metrics"]["val_accuracy"] > 0.8
    preprocess = json.loads((run.model_path / "preprocess.json").read_text())
    assert preprocess["classes"] == (["bright", "dark"] if kind == "image" else ["a", "b"])
