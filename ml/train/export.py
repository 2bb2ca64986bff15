"""Writes the model folder: weights, configuration, preprocessing and the code that reads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save

from ml import failpoints
from ml.rundir import RunDir, sync_folder
from ml.train import model
from ml.train.checkpoint import Tensors, write_files


def export_model(
    run: RunDir, weights: Tensors, network: dict[str, Any], preprocess: dict[str, Any]
) -> None:
    """Replace model/ as a whole; it loads in plain PyTorch (see model.py inside)."""
    temporary = run.path / ".model.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        failpoints.hit("export.before_write")
        write_files(
            temporary,
            {
                "model.safetensors": save(weights),
                "config.json": _json(network),
                "preprocess.json": _json(preprocess),
                "model.py": Path(model.__file__).read_bytes(),
            },
        )
        failpoints.hit("export.after_write")
        shutil.rmtree(run.model_path, ignore_errors=True)  # of an attempt that died here
        temporary.rename(run.model_path)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    failpoints.hit("export.after_rename")
    sync_folder(run.path)


def _json(data: dict[str, Any]) -> bytes:
    return json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False).encode()
