"""Programs that torch.export.save wrote: named tensors in, named tensors out, by plain PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export.graph_signature import ConstantArgument, InputKind
from torch.export.passes import move_to_device_pass

# torch.export.load also tries the format before this one, which is all pickles.
from torch.export.pt2_archive._package import load_pt2
from torch.utils import _pytree as pytree

from ml.formats.exported import check_exported
from ml.formats.exported_graph import Program
from ml.formats.refusal import ModelRefused
from ml.serve.errors import LoadRefused, first_line
from ml.serve.runtimes import Options
from ml.serve.signature import DATATYPES, Array, Signature, TensorSpec
from ml.serve.tensors import Inputs

DATATYPE_OF = {np.dtype(kind).name: name for name, kind in DATATYPES.items()}


class ExportedRuntime:
    """Inputs have the names of the model's `forward`; see ml.formats.exported_graph for outputs.

    Answers equal those of the program itself; nothing is compiled.
    """

    def __init__(self, path: Path, options: Options) -> None:
        torch.set_num_threads(options.threads)
        try:
            known = check_exported(path)
        except ModelRefused as error:
            raise LoadRefused(error.message) from error
        self._device = torch.device(options.device)
        self._module, self._tree, self._flat = _load(path, known, self._device)
        self._outputs = [output["name"] for output in known.outputs]
        self.signature = Signature(
            inputs=tuple(_specs(known.inputs)),
            outputs=tuple(_specs(known.outputs)),
            most_rows=known.most_rows,
        )

    def predict(self, inputs: Inputs, outputs: Sequence[str]) -> Inputs:
        # Copied: a program may write into what it is given.
        tensors = {name: torch.tensor(array, device=self._device) for name, array in inputs.items()}
        flat = [tensors[name] if name is not None else value for name, value in self._flat]
        args, kwargs = pytree.tree_unflatten(flat, self._tree)
        with torch.inference_mode():
            found = pytree.tree_leaves(self._module(*args, **kwargs))
            answers = dict(zip(self._outputs, found, strict=True))
            return {name: _to_array(answers[name]) for name in outputs}

    def close(self) -> None:
        del self._module


def _load(
    path: Path, known: Program, device: torch.device
) -> tuple[Any, Any, list[tuple[str | None, Any]]]:
    """What is called, how its flat inputs are nested, and each of these: a name, or its value."""
    try:
        program = load_pt2(str(path)).exported_programs["model"]
        if device.type != "cpu":
            program = move_to_device_pass(program, device)
        return program.module(), program.call_spec.in_spec, list(_flat_inputs(program))
    except Exception as error:  # whatever an unknown operator or a missing part ends in
        raise LoadRefused(
            f"torch {torch.__version__} cannot load what torch {known.torch_version} exported:"
            f" {first_line(error)}"
        ) from error


def _flat_inputs(program: torch.export.ExportedProgram) -> Iterable[tuple[str | None, Any]]:
    for spec in program.graph_signature.input_specs:
        if spec.kind == InputKind.USER_INPUT:
            is_constant = isinstance(spec.arg, ConstantArgument)
            yield (None, spec.arg.value) if is_constant else (spec.arg.name, None)


def _specs(described: Iterable[dict[str, Any]]) -> Iterable[TensorSpec]:
    for each in described:
        # A size with a name, or one that is computed, is open.
        shape = tuple(size if isinstance(size, int) else None for size in each["shape"])
        yield TensorSpec(name=each["name"], datatype=DATATYPE_OF[each["dtype"]], shape=shape)


def _to_array(tensor: torch.Tensor) -> Array:
    if tensor.dtype == torch.bfloat16:  # which numpy lacks
        tensor = tensor.float()
    array: Array = tensor.detach().cpu().numpy()
    return array
