"""Writes the model folder, as a whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import save

from ml import failpoints
from ml.rundir import RunDir, sync_folder
from ml.train import model
from ml.train.checkpoint import Tensors


def replace_model(run: RunDir, write: Callable[[Path], None]) -> None:
    """Replace model/ as a whole by what `write` puts into the new folder it is given."""
    temporary = run.model_temporary
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        failpoints.hit("export.before_write")
        write(temporary)
        sync_tree(temporary)
        failpoints.hit("export.after_write")
        shutil.rmtree(run.model_path, ignore_errors=True)  # of an attempt that died here
        temporary.rename(run.model_path)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    failpoints.hit("export.after_rename")
    sync_folder(run.path)


def network_files(
    weights: Tensors, network: dict[str, Any], preprocess: dict[str, Any]
) -> dict[str, bytes]:
    """What loads in plain PyTorch; model.py inside shows how."""
    return {
        "model.safetensors": save(weights),
        "config.json": as_json(network),
        "preprocess.json": as_json(preprocess),
        "model.py": Path(model.__file__).read_bytes(),
    }


def sync_tree(folder: Path) -> None:
    """Make durable what a library wrote."""
    for path in sorted(folder.rglob("*")):
        sync_folder(path)  # a file is opened and synced just so
    sync_folder(folder)


def as_json(data: dict[str, Any]) -> bytes:
    return json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False).encode()
