"""Looks through an ONNX model without running it: what it needs, what it would take, its inputs.

What is announced is judged before a library acts on it: the nesting of the file, of functions
that call functions, the sizes of tensors, the files that weights are to come from.
"""

import math
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto
from onnx.checker import ValidationError, check_model
from onnx.helper import tensor_dtype_to_np_dtype
from onnx.shape_inference import InferenceError, infer_shapes

from ml.formats.protobuf import check_nesting
from ml.formats.refusal import ModelRefused

DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
MAX_CALL_DEPTH = 32
MAX_NODES = 1_000_000
MAX_TENSOR_BYTES = 2 * 2**30
SMALL_TENSOR_BYTES = 2**16
"""What shape inference needs the values of is smaller than that."""

Facts = dict[str, Any]


def check_onnx(path: Path, others: Iterable[str]) -> Facts:
    """`inputs`, `outputs`, `opsets`, `parameter_count`, `external` (the files beside it that it
    reads). `others` are the names of the files that came with it. Raises ModelRefused."""
    check_nesting(path)
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise ModelRefused(f"{path.name} is no ONNX model: {error}.") from error
    if not model.graph.node:
        raise ModelRefused(f"{path.name} is no ONNX model: its graph has no operators.")
    _check_functions(model, path.name)
    locations = [_check_tensor(tensor, path, set(others)) for tensor in _tensors(model)]
    weights = {each.name for each in model.graph.initializer}
    facts = {
        "inputs": _values(model.graph.input, path.name, weights),
        "outputs": _values(model.graph.output, path.name),
        "opsets": {each.domain or "ai.onnx": each.version for each in model.opset_import},
        "parameter_count": sum(math.prod(each.dims) for each in model.graph.initializer),
        "external": sorted({each for each in locations if each}),
    }
    _check_sizes(model, path.name)
    _check_rules(path)
    return facts


def _check_rules(path: Path) -> None:
    """What ONNX itself says of a well-formed model."""
    try:
        check_model(str(path))
    except (ValidationError, UnicodeDecodeError) as error:
        raise ModelRefused(f"{path.name} breaks a rule of ONNX: {_first_line(error)}") from error


# --- Functions ----------------------------------------------------------------------------


def _check_functions(model: ModelProto, name: str) -> None:
    """Functions are unfolded when a model is loaded: how deep, and into how many operators?"""
    bodies = {(each.domain, each.name): list(_nodes(each.node)) for each in model.functions}
    measured: dict[tuple[str, str], tuple[int, int]] = {}
    for function in bodies:
        _measure(function, bodies, measured, name)
    nodes = list(_nodes(model.graph.node))
    total = sum(measured.get((node.domain, node.op_type), (0, 1))[1] for node in nodes)
    if total > MAX_NODES:
        raise ModelRefused(
            f"{name} unfolds to {total:,} operators; at most {MAX_NODES:,} are loaded."
        )
    for node in [*nodes, *(each for body in bodies.values() for each in body)]:
        if (node.domain, node.op_type) not in bodies and node.domain not in DOMAINS:
            raise ModelRefused(
                f"{name} needs the operator {node.op_type!r} of {node.domain!r}, which is not"
                " part of ONNX; export it with standard operators."
            )


def _measure(
    first: tuple[str, str],
    bodies: dict[tuple[str, str], list[NodeProto]],
    measured: dict[tuple[str, str], tuple[int, int]],
    name: str,
) -> None:
    """Depth and operators of a function, its callees first; without recursion of our own."""
    path = [first]
    while path:
        calls = [(node.domain, node.op_type) for node in bodies[path[-1]]]
        callees = {call for call in calls if call in bodies}
        if waiting := callees - measured.keys():
            path.append(waiting.pop())
            if len(path) > MAX_CALL_DEPTH or path[-1] in path[:-1]:
                raise _too_deep(name)
            continue
        depth = 1 + max((measured[each][0] for each in callees), default=0)
        if depth > MAX_CALL_DEPTH:
            raise _too_deep(name)
        measured[path.pop()] = (depth, sum(measured.get(call, (0, 1))[1] for call in calls))


def _too_deep(name: str) -> ModelRefused:
    return ModelRefused(
        f"{name} has functions that call functions more than {MAX_CALL_DEPTH} deep, which crashes"
        " runtimes; export it with inlined functions (onnx.inliner.inline_local_functions)."
    )


def _nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """These and those of the graphs inside them; check_nesting has bounded the depth."""
    for node in nodes:
        yield node
        for graph in _subgraphs(node):
            yield from _nodes(graph.node)


def _subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


# --- Tensors ------------------------------------------------------------------------------


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    yield from _graph_tensors(model.graph)
    for part in model.training_info:
        yield from _graph_tensors(part.initialization)
        yield from _graph_tensors(part.algorithm)
    for function in model.functions:
        yield from _node_tensors(function.node)
        yield from _attribute_tensors(function.attribute_proto)


def _graph_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Iterable[NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        yield from _attribute_tensors(node.attribute)
        for graph in _subgraphs(node):
            yield from _graph_tensors(graph)


def _attribute_tensors(attributes: Iterable[AttributeProto]) -> Iterator[TensorProto]:
    for attribute in attributes:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        sparse = list(attribute.sparse_tensors)
        if attribute.HasField("sparse_tensor"):
            sparse.append(attribute.sparse_tensor)
        for each in sparse:
            yield from (each.values, each.indices)


def _check_tensor(tensor: TensorProto, path: Path, others: set[str]) -> str | None:
    """The file it comes from, if it is one beside the model; its size is what it says."""
    if any(size < 0 for size in tensor.dims):
        raise ModelRefused(f"{path.name}: the tensor {tensor.name!r} has a negative size.")
    count = math.prod(tensor.dims)
    if tensor.data_location != TensorProto.EXTERNAL:
        _check_values(tensor, count, path.name)
        return None
    entries = {str(entry.key): str(entry.value) for entry in tensor.external_data}
    location = entries.get("location", "")
    if location not in others or PurePosixPath(location).is_absolute():
        raise ModelRefused(
            f"{path.name} takes the weights {tensor.name!r} from {location[:100]!r}, which is not"
            " a file of this upload; send the .onnx file and its data files together.",
            code="unsafe_name",
        )
    _check_span(tensor, count, entries, path.parent / location, path.name)
    return location


def _check_span(
    tensor: TensorProto, count: int, entries: dict[str, str], file: Path, name: str
) -> None:
    numbers = [entries.get("offset", "0"), entries.get("length", "0")]
    if not all(number.isdecimal() and len(number) < 16 for number in numbers):
        raise ModelRefused(f"{name}: where {tensor.name!r} lies in its file is no number.")
    offset, length = map(int, numbers)
    needed = _size_bytes(tensor.data_type, count, name)
    if (length and length != needed) or offset + needed > file.stat().st_size:
        raise ModelRefused(
            f"{name}: {tensor.name!r} takes {needed:,} bytes, but {file.name} does not hold them;"
            " the file was cut off or belongs to another model."
        )


def _check_values(tensor: TensorProto, count: int, name: str) -> None:
    if tensor.HasField("raw_data"):
        fits = len(tensor.raw_data) == _size_bytes(tensor.data_type, count, name)
    else:
        fields = ("float_data", "int32_data", "string_data", "int64_data", "double_data")
        values = sum(len(getattr(tensor, field)) for field in (*fields, "uint64_data"))
        # Complex numbers take two values, numbers of 4 bits half a one.
        fits = count <= 2 * values and values <= 2 * count
    if not fits:
        raise ModelRefused(
            f"{name}: the tensor {tensor.name!r} announces {count:,} values (shape"
            f" {list(tensor.dims)}), but the file does not hold them; it is damaged."
        )


def _size_bytes(kind: int, count: int, name: str) -> int:
    """How many bytes so many numbers of a type take in a file."""
    type_name = _type_name(kind, name)
    if kind == TensorProto.UNDEFINED:
        raise ModelRefused(f"{name} has a tensor without a type.")
    bits = {"4": 4, "2": 2}.get(type_name.removeprefix("U").removeprefix("INT"), 0)
    if type_name == "FLOAT4E2M1":
        bits = 4
    bits = bits or tensor_dtype_to_np_dtype(kind).itemsize * 8
    return (count * bits + 7) // 8


def _type_name(kind: int, name: str) -> str:
    if kind not in TensorProto.DataType.values():
        raise ModelRefused(f"{name} has a tensor of the unknown type {kind}.")
    return str(TensorProto.DataType.Name(kind))


# --- What it would take -------------------------------------------------------------------


def _check_sizes(model: ModelProto, name: str) -> None:
    """The shapes that follow from the graph: a few bytes can ask for gigabytes."""
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) > SMALL_TENSOR_BYTES:
            tensor.ClearField("raw_data")  # inference looks at its shape only
    try:
        inferred = infer_shapes(model, data_prop=True)
    except (InferenceError, ValidationError, UnicodeDecodeError) as error:
        raise ModelRefused(f"The shapes in {name} do not fit: {_first_line(error)}") from error
    for value in [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]:
        kind = value.type.tensor_type
        count = math.prod(max(1, size.dim_value) for size in kind.shape.dim)
        if kind.elem_type and _size_bytes(kind.elem_type, count, name) > MAX_TENSOR_BYTES:
            raise ModelRefused(
                f"{name} computes {value.name!r} with {count:,} values, more than"
                f" {MAX_TENSOR_BYTES:,} bytes; make it smaller.",
                code="too_large",
            )


def _values(
    values: Iterable[ValueInfoProto], name: str, weights: Collection[str] = ()
) -> list[Facts]:
    """Name, type and shape of inputs or outputs; a size that is free has a name or is null."""
    return [
        {
            "name": value.name,
            "dtype": _type_name(value.type.tensor_type.elem_type, name).lower(),
            "shape": [
                size.dim_value if size.HasField("dim_value") else size.dim_param or None
                for size in value.type.tensor_type.shape.dim
            ],
        }
        for value in values
        if value.name not in weights
    ]


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300]
