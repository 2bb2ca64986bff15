"""Models as people bring them, made on the spot and small."""

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from safetensors.numpy import save

T5 = {
    "architectures": ["T5ForConditionalGeneration"],
    "model_type": "t5",
    "vocab_size": 8,
    "d_model": 4,
    "num_layers": 1,
}
TOKENIZER: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"},
}
Files = dict[str, bytes]


def as_bytes(content: Any) -> bytes:
    return json.dumps(content).encode()


def weights(**shapes: tuple[int, ...]) -> bytes:
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    return save(arrays or {"shared.weight": np.zeros((8, 4), np.float32)})


def t5_folder(**changed: bytes) -> Files:
    """A Hugging Face folder; its weights are none that a T5 could use, which nobody looks at."""
    return {
        "config.json": as_bytes(T5),
        "tokenizer.json": as_bytes(TOKENIZER),
        "model.safetensors": weights(),
        "README.md": b"---\nlicense: mit\n---\n# A small one\n",
        **changed,
    }


def onnx_bytes(
    *nodes: Any, weights: tuple[TensorProto, ...] = (), functions: tuple[Any, ...] = ()
) -> bytes:
    """Of the nodes given; else of y = relu(x), with a free number of rows."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 3])
    graph = helper.make_graph(
        list(nodes) or [helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y], list(weights)
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=10)
    return bytes(model.SerializeToString())


def external_tensor(location: str, shape: tuple[int, ...] = (3,)) -> TensorProto:
    tensor = onnx.numpy_helper.from_array(np.ones(shape, np.float32), "w")
    onnx.external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    return tensor


def pack_zip(files: Files, *, compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def pack_tar(files: Files, *members: tarfile.TarInfo, mode: str = "w:gz") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in members:
            archive.addfile(member)
    return stream.getvalue()


def write(folder: Path, files: Files) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder
