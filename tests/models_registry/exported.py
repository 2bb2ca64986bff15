"""A .pt2 archive as torch.export.save writes it, by hand: y = relu(x · w), rows free."""

import copy
import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

Json = dict[str, Any]
LEAF: Json = {"type": None, "context": None, "children_spec": []}
ROWS = {"as_expr": {"expr_str": "Symbol('s0', positive=True, integer=True)", "hint": {"as_int": 2}}}
WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3) - 6
SAMPLES = "data/sample_inputs/model.pt"
WEIGHTS_CONFIG = "data/weights/model_weights_config.json"
GRAPH = "models/model.json"


def tree(kind: str, *children: Json, context: Any = None) -> Json:
    return {"type": kind, "context": json.dumps(context), "children_spec": list(children)}


IN = tree(
    "builtins.tuple", tree("builtins.tuple", LEAF), tree("builtins.dict", context=[])
)  # args, kwargs


def tensor(*sizes: Any) -> Json:
    described = [size if isinstance(size, dict) else {"as_int": size} for size in sizes]
    strides = [{"as_int": step} for step in ([1], [sizes[-1], 1])[len(sizes) - 1]]
    return {
        "dtype": 7,
        "sizes": described,
        "requires_grad": False,
        "device": {"type": "cpu", "index": None},
        "strides": strides,
        "storage_offset": {"as_int": 0},
        "layout": 7,
    }


def named(name: str) -> Json:
    return {"as_tensor": {"name": name}}


def node(target: str, output: str, **inputs: Json) -> Json:
    arguments = [{"name": name, "arg": value, "kind": 1} for name, value in inputs.items()]
    return {
        "target": target,
        "inputs": arguments,
        "outputs": [named(output)],
        "metadata": {"stack_trace": 'File "/home/ada/train.py", line 3'},
        "is_hop_single_tensor_return": None,
        "name": output,
    }


def program() -> Json:
    call = {
        "inputs": [],
        "outputs": [],
        "in_spec": json.dumps([1, IN]),
        "out_spec": json.dumps([1, tree("builtins.dict", LEAF, context=["y"])]),
        "forward_arg_names": ["x"],
    }
    graph = {
        "inputs": [named("p_w"), named("x")],
        "outputs": [named("relu")],
        "nodes": [
            node("torch.ops.aten.matmul.default", "m", self=named("x"), other=named("p_w")),
            node("torch.ops.aten.relu.default", "relu", self=named("m")),
        ],
        "tensor_values": {
            "p_w": tensor(4, 3), "x": tensor(ROWS, 4), "m": tensor(ROWS, 3),
            "relu": tensor(ROWS, 3),
        },
        "sym_int_values": {},
        "sym_bool_values": {},
        "is_single_tensor_return": False,
        "custom_obj_values": {},
        "sym_float_values": {},
    }  # fmt: skip
    weight = {"arg": {"name": "p_w"}, "parameter_name": "w"}
    return {
        "graph_module": {
            "graph": graph,
            "signature": {
                "input_specs": [{"parameter": weight}, {"user_input": {"arg": named("x")}}],
                "output_specs": [{"user_output": {"arg": named("relu")}}],
            },
            "module_call_graph": [{"fqn": "", "signature": call}],
            "metadata": {},
            "treespec_namedtuple_fields": {},
        },
        "opset_version": {"aten": 10},
        "range_constraints": {"s0": {"min_val": 0, "max_val": None}},
        "schema_version": {"major": 8, "minor": 17},
        "verifiers": ["TRAINING"],
        "torch_version": "2.11.0",
        "guards_code": ["L['x'].size()[1] == 4"],
    }


def payloads() -> Json:
    return {
        "w": {
            "path_name": "weight_0",
            "is_param": True,
            "use_pickle": False,
            "tensor_meta": tensor(4, 3),
        }
    }


def exported_bytes(
    change: Callable[[Json], object] = lambda program: None,
    change_payloads: Callable[[Json], object] = lambda payloads: None,
    members: dict[str, bytes | None] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> bytes:
    """`change` and `change_payloads` may write into what they get; `members` replaces files of
    the archive, or leaves them out where it says None."""
    graph, config = copy.deepcopy(program()), payloads()
    change(graph)
    change_payloads(config)
    files: dict[str, bytes | None] = {
        "archive_format": b"pt2",
        "archive_version": b"0",
        "byteorder": b"little",
        ".data/version": b"6\n",
        GRAPH: json.dumps(graph).encode(),
        SAMPLES: b"",
        WEIGHTS_CONFIG: json.dumps({"config": config}).encode(),
        "data/weights/weight_0": WEIGHTS.tobytes(),
        "data/constants/model_constants_config.json": b'{"config": {}}',
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in (files | (members or {})).items():
            if content is not None:
                archive.writestr(f"net/{name}", content)
    return stream.getvalue()
