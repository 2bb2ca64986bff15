"""Models that bring their worker down, in folders as the registry has them."""

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from ml.formats.exported import take_exported
from tests.hostile.files import nested_functions
from tests.ml.serve.models import save
from tests.models_registry.exported import Json, exported_bytes, named, node, tensor

DEADLY = 2**40
"""As input of write_crasher."""


def write_crasher(folder: Path) -> Path:
    """Sums so many of four numbers as input `x` (1, INT64) says, unchecked: more end the process
    by SIGSEGV."""
    folder.mkdir(parents=True, exist_ok=True)
    brought = folder.parent / f"{folder.name}.brought"
    brought.write_bytes(crasher_bytes())
    take_exported(brought, folder / "model.pt2")
    return folder


def crasher_bytes(deadly: int | None = None) -> bytes:
    """With `deadly` it adds so much to `x`, and so needs no bad input."""

    def change(program: Json) -> None:
        graph = program["graph_module"]["graph"]
        count: Json = tensor(1) | {"dtype": 5}
        added: Json = {"as_int": deadly or 0}
        graph["tensor_values"] = {
            "p_w": tensor(4, 3), "x": count, "n": count, "all": tensor(12), "relu": tensor(1),
        }  # fmt: skip
        flat: Json = {"as_ints": [-1]}
        graph["nodes"] = [
            node("torch.ops.aten.add.Scalar", "n", self=named("x"), other=added),
            node("torch.ops.aten.reshape.default", "all", self=named("p_w"), shape=flat),
            node(
                "torch.ops.aten.segment_reduce.default", "relu",
                data=named("all"), reduce={"as_string": "sum"},
                lengths=named("n"), unsafe={"as_bool": True},
            ),
        ]  # fmt: skip
        for argument in graph["nodes"][2]["inputs"][2:]:
            argument["kind"] = 2  # of aten's schema: by keyword only
        program["guards_code"], program["range_constraints"] = [], {}

    return exported_bytes(change)


def write_deep(folder: Path) -> Path:
    """Functions in functions: onnxruntime overflows its stack while it loads them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(nested_functions())
    return folder


def write_glutton(folder: Path) -> Path:
    """Sums as many zeros as input `x` (1, INT64) says: 2³⁶ of them would take 256 GiB."""
    folder.mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node("ConstantOfShape", ["x"], ["much"]),
        helper.make_node("ReduceSum", ["much"], ["sum"], keepdims=0),
        helper.make_node("Add", ["sum", "zero"], ["y"]),
    ]
    zero: Any = numpy_helper.from_array(np.zeros(1, np.float32), "zero")
    return save(folder / "model.onnx", nodes, [zero], (1,), (1,), kind=TensorProto.INT64).parent
