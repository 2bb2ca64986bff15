"""Opens a TorchScript archive, which runs code: only in a locked process, and where it is wanted.

Only operators of PyTorch's own arithmetic are accepted; whatever opens files, calls Python or
calls what cannot be looked into is refused by name.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml.formats.refusal import ModelRefused

NAMESPACES = ("aten", "prim")
FORBIDDEN = frozenset(
    {
        "aten::from_file",
        "aten::save",
        "aten::load",
        "prim::PythonOp",
        "prim::CallFunction",
        "prim::CallMethod",
        "prim::fork",
        "prim::awaitable",
    }
)


def check_torchscript(path: Path) -> dict[str, Any]:
    """`parameter_count`, `operators`; raises ModelRefused."""
    import torch

    try:
        module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise ModelRefused(
            f"{path.name} cannot be opened as TorchScript:"
            f" {str(error).strip().splitlines()[-1][:200]}"
        ) from error
    operators = {kind for graph in _graphs(module) for kind in _kinds(graph)}
    refused = sorted(
        each for each in operators if each in FORBIDDEN or each.split("::")[0] not in NAMESPACES
    )
    if refused:
        raise ModelRefused(
            f"{path.name} uses {', '.join(refused[:5])}, which is not arithmetic on tensors;"
            " export the model as ONNX."
        )
    return {
        "parameter_count": sum(each.numel() for each in module.parameters()),
        "operators": sorted(operators),
    }


def _graphs(module: Any) -> Iterator[Any]:
    """Of every method of every part, with the functions that they call written out."""
    for part in module.modules():
        for name in part._c._method_names():
            yield part._c._get_method(name).inlined_graph


def _kinds(block: Any) -> Iterator[str]:
    for node in block.nodes():
        yield str(node.kind())
        for inner in node.blocks():
            yield from _kinds(inner)
