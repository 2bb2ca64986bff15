"""The libraries that run models, behind one small protocol, and which folder is whose."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ml.formats.exported import NAME as EXPORTED_FILE
from ml.formats.huggingface import task_of
from ml.serve.errors import LoadRefused
from ml.serve.signature import Signature
from ml.serve.tensors import Inputs

FEATURES_FILES = ("model.onnx", "preprocess.json")
LANGUAGE_CONFIG = "config.json"
NETWORK_FILES = ("config.json", "preprocess.json", "model.safetensors")


@dataclass(frozen=True, kw_only=True)
class Options:
    device: str = "cpu"
    """`cpu`, or `cuda:0` with the number of the GPU."""
    threads: int = 1
    optimization_level: int = 2
    """Of ONNX graphs: 0 none, 1 what is quick to find, 2 everything."""


class Runtime(Protocol):
    """One loaded model. Called by one thread at a time."""

    @property
    def signature(self) -> Signature: ...

    def predict(self, inputs: Inputs, outputs: Sequence[str]) -> Inputs:
        """The named outputs. `inputs` fit the signature; what the library raises, it raises."""

    def close(self) -> None: ...


def open_runtime(folder: Path, options: Options) -> Runtime:
    """Load the model in a folder, by what lies there; raises LoadRefused."""
    # Imported where needed: onnxruntime starts in a tenth of the time of torch.
    if is_network(folder):
        from ml.serve.network_runtime import NetworkRuntime

        return NetworkRuntime(folder, options)
    if all((folder / name).is_file() for name in FEATURES_FILES):
        from ml.serve.features_runtime import FeaturesRuntime

        return FeaturesRuntime(folder, options)
    if find_language_task(folder) is not None:
        from ml.serve.text_runtime import TextRuntime

        return TextRuntime(folder, options)
    if (folder / EXPORTED_FILE).is_file():
        from ml.serve.exported_runtime import ExportedRuntime

        return ExportedRuntime(folder / EXPORTED_FILE, options)
    graphs = sorted(folder.glob("*.onnx"))
    if len(graphs) == 1:
        from ml.serve.onnx_runtime import OnnxRuntime

        return OnnxRuntime(graphs[0], options)
    names = ", ".join(sorted(path.name for path in folder.iterdir())[:10])
    raise LoadRefused(
        f"No runtime serves a folder with {names}. Served are: one .onnx file, one exported program"
        " (torch.export.save), Hugging Face folders with safetensors, and networks and classical"
        " models that were trained here."
    )


def is_network(folder: Path) -> bool:
    """Whether the folder is one that recipe `network` leaves."""
    if not all((folder / name).is_file() for name in NETWORK_FILES):
        return False
    return "input_shape" in json.loads((folder / "config.json").read_bytes())


def find_language_task(folder: Path) -> str | None:
    """What the model of a Hugging Face folder is for (ml.formats.huggingface.TASKS); None: the
    folder is none. Raises LoadRefused."""
    if (folder / "adapter_config.json").is_file():
        raise LoadRefused(
            "This is an adapter (LoRA) without its base model; train it with lora_merge, or upload"
            " the merged model."
        )
    path = folder / LANGUAGE_CONFIG
    if not path.is_file() or not any(folder.glob("*.safetensors")):
        return None
    names = json.loads(path.read_bytes()).get("architectures")
    return task_of(str(names[0])) if isinstance(names, list) and names else None
