"""Looks through a network folder as this server's own trainings leave it."""

import json
from pathlib import Path
from typing import Any

from ml.formats.huggingface import read_json
from ml.formats.refusal import ModelRefused, check_weights

CODE, CONFIG, PREPROCESS, WEIGHTS = (
    "model.py",
    "config.json",
    "preprocess.json",
    "model.safetensors",
)
KEPT = (CONFIG, PREPROCESS, WEIGHTS, "README.md")
CONFIG_KEYS = ("architecture", "input_shape", "hidden_sizes", "output_size", "task", "dropout")


def check_network(folder: Path) -> dict[str, Any]:
    """`architecture`, `task`, `parameter_count`, `classes`, `left_out`; raises ModelRefused.

    The network is built without memory for its weights, and their shapes are compared. The code
    that came with it is replaced by this server's own.
    """
    import torch

    from ml.train import model

    config = read_json(folder / CONFIG)
    if missing := [key for key in CONFIG_KEYS if key not in config]:
        raise ModelRefused(f"{CONFIG} of a network lacks {', '.join(missing)}.")
    try:
        with torch.device("meta"):
            state = model.build(config).state_dict()
    except (TypeError, ValueError, KeyError, IndexError, RuntimeError, OverflowError) as error:
        raise ModelRefused(
            f"{CONFIG} describes no network that can be built: {str(error)[:200]}."
        ) from error
    header_shapes = {each.name: each.shape for each in check_weights(folder / WEIGHTS).tensors}
    wanted = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if wanted != header_shapes:
        name = min(set(wanted.items()) ^ set(header_shapes.items()))[0]
        raise ModelRefused(
            f"{WEIGHTS} does not hold the weights of the network in {CONFIG}: {name!r} is"
            f" {header_shapes.get(name, 'missing')}, {wanted.get(name, 'nothing')} was expected."
        )
    classes = _check_preprocess(folder / PREPROCESS)
    left_out = _leave_out(folder)
    (folder / CODE).write_bytes(Path(model.__file__).read_bytes())
    return {
        "architecture": str(config["architecture"]),
        "task": str(config["task"]),
        "parameter_count": sum(tensor.numel() for tensor in state.values()),
        "classes": classes,
        "left_out": left_out,
    }


def _check_preprocess(path: Path) -> list[Any] | None:
    content = read_json(path)
    if content.get("kind") not in ("table", "image"):
        raise ModelRefused(f"{path.name} must say kind: table or image; take the whole folder.")
    classes = content.get("classes")
    return classes if isinstance(classes, list) else None


def _leave_out(folder: Path) -> list[str]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    needless = [path for path in paths if path.relative_to(folder).as_posix() not in KEPT]
    for path in needless:
        path.unlink()
    return [path.name for path in needless if path.name != CODE]


def is_network(folder: Path) -> bool:
    """Whether the folder means to be one; what is damaged is told by check_network."""
    if not all((folder / name).is_file() for name in (CONFIG, PREPROCESS, WEIGHTS)):
        return False
    try:
        return "input_shape" in json.loads((folder / CONFIG).read_bytes())
    except (ValueError, RecursionError):
        return False
