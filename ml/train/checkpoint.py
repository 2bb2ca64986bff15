"""Checkpoints: safetensors and JSON, durable before they count, verified before they are used."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save

from ml import failpoints
from ml.rundir import RunDir, is_complete, read_json, sync_folder, write_json

SPARE_BYTES = 1_000_000
"""Left free beside a checkpoint, for the journal that must still say what happened."""

FORMAT = 1
"""Of what a checkpoint holds. One of another format is set aside, never guessed at."""

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Checkpoint:
    model: Tensors
    optimizer: Tensors
    state: dict[str, Any]


def checkpoint_path(run: RunDir, step: int) -> Path:
    return run.checkpoints_path / f"step-{step:06d}"


def save_checkpoint(run: RunDir, step: int, checkpoint: Checkpoint) -> Path:
    """Write, fsync, rename, fsync the folder, and only then the manifest."""
    files = {
        "model.safetensors": save(checkpoint.model),
        "optimizer.safetensors": save(checkpoint.optimizer),
        "state.json": json.dumps({"format": FORMAT, **checkpoint.state}, allow_nan=False).encode(),
    }
    run.checkpoints_path.mkdir(exist_ok=True)
    _require_space(run.checkpoints_path, sum(map(len, files.values())))
    final = checkpoint_path(run, step)
    temporary = run.checkpoints_path / f".tmp-{final.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        failpoints.hit("checkpoint.before_write")
        write_files(temporary, files)
        failpoints.hit("checkpoint.after_write")
        temporary.rename(final)
        failpoints.hit("checkpoint.after_rename")
        sync_folder(run.checkpoints_path)
        failpoints.hit("checkpoint.before_manifest")
        write_json(final / "COMPLETE", {name: _facts(data) for name, data in files.items()})
        failpoints.hit("checkpoint.after_manifest")
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)  # gives the space back
        raise
    return final


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir()
    for name, data in files.items():
        with (folder / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    sync_folder(folder)


def load_newest(run: RunDir, warn: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that can be used; others are set aside, with a warning each."""
    for leftover in run.checkpoints_path.glob(".tmp-*"):
        shutil.rmtree(leftover)
    for folder in reversed(run.checkpoints()):
        try:
            return _load(folder)
        except _Unusable as why:
            set_aside(folder, str(why), warn)
    return None


class _Unusable(Exception):
    """What is wrong with a checkpoint, to follow its name."""


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """None when it is partial, of another format, or a byte of it is not what was written."""
    try:
        return _load(folder)
    except _Unusable:
        return None


def _load(folder: Path) -> Checkpoint:
    manifest = read_json(folder / "COMPLETE") or {} if is_complete(folder) else {}
    files = {name: (folder / name).read_bytes() for name in manifest}
    if not files or any(_facts(data) != manifest[name] for name, data in files.items()):
        raise _Unusable("is damaged")
    state = json.loads(files["state.json"])
    if (found := state.pop("format", 0)) != FORMAT:
        raise _Unusable(f"is of format {found}, and this version reads format {FORMAT}")
    return Checkpoint(
        model=load(files["model.safetensors"]),
        optimizer=load(files["optimizer.safetensors"]),
        state=state,
    )


def set_aside(folder: Path, why: str, warn: Callable[[str], None]) -> None:
    aside = folder.with_name(f"unused-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)  # an older one of the same step
    folder.rename(aside)
    warn(f"Checkpoint {folder.name} {why}; it is kept as {aside.name}, and the one before used.")


def prune(run: RunDir, keep: int, best_step: int | None) -> None:
    """Keep the newest `keep` and the best."""
    for folder in run.checkpoints()[:-keep]:
        if best_step is None or folder != checkpoint_path(run, best_step):
            # Renamed first: a half-deleted folder must not look like a damaged checkpoint.
            doomed = folder.with_name(f".tmp-old-{folder.name}")
            failpoints.hit("prune.before_rename")
            folder.rename(doomed)
            failpoints.hit("prune.before_delete")
            shutil.rmtree(doomed)


def copy_tensors(tensors: Tensors) -> Tensors:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """The optimizer's memory, flat: "<parameter number>.<name>" to tensor."""
    return {
        f"{number}.{name}": value
        for number, parameter in enumerate(_parameters(optimizer))
        for name, value in optimizer.state[parameter].items()
        if isinstance(value, torch.Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    parameters = _parameters(optimizer)
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        parameter = parameters[int(number)]
        # Step counters stay on the CPU, where the optimizers keep them.
        device = parameter.device if value.dim() else torch.device("cpu")
        optimizer.state[parameter][name] = value.to(device)


def random_state(device: torch.device) -> dict[str, Any]:
    """Every generator a training may draw from, as JSON."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    state = {
        "python": random.getstate(),
        "numpy": [kind, np.asarray(keys).tolist(), position, has_gauss, gauss],
        "torch": _to_text(torch.get_rng_state()),
    }
    if device.type == "cuda":
        state["cuda"] = _to_text(torch.cuda.get_rng_state(device))
    return state


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), position, has_gauss, cached))
    torch.set_rng_state(_from_text(state["torch"]))
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(_from_text(state["cuda"]), device)


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _facts(data: bytes) -> dict[str, Any]:
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _require_space(folder: Path, size: int) -> None:
    if shutil.disk_usage(folder).free < size + SPARE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _to_text(state: torch.Tensor) -> str:
    return base64.b64encode(state.cpu().numpy().tobytes()).decode()


def _from_text(text: str) -> torch.Tensor:
    return torch.tensor(list(base64.b64decode(text)), dtype=torch.uint8)
