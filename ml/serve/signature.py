"""What a model takes and gives: named tensors with datatype and shape.

Datatypes have the names of the Open Inference Protocol (https://github.com/kserve/open-inference-
protocol, "Tensor Data Types"); BYTES are UTF-8 strings here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

DATATYPES: dict[str, type[np.generic]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    name: str
    datatype: str
    shape: tuple[int | None, ...]
    """None: any size."""
    is_column: bool = False
    """A column of a table: its values may be empty, and numbers may stand for words."""

    @property
    def dtype(self) -> type[np.generic]:
        return DATATYPES[self.datatype]

    def to_dict(self) -> dict[str, Any]:
        shape = [-1 if size is None else size for size in self.shape]
        return {"name": self.name, "datatype": self.datatype, "shape": shape}


@dataclass(frozen=True, kw_only=True)
class Signature:
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    classes: tuple[Any, ...] | None = None
    """In the order of `probabilities`, where the model tells classes apart."""
    most_rows: int | None = None
    """That the model takes at once, where it says so."""

    def to_dict(self) -> dict[str, Any]:
        tensors = {
            "inputs": [spec.to_dict() for spec in self.inputs],
            "outputs": [spec.to_dict() for spec in self.outputs],
        }
        return tensors if self.classes is None else {**tensors, "classes": list(self.classes)}

    @property
    def may_be_batched(self) -> bool:
        """Whether every first size is open, so that rows of several requests can be joined."""
        return _starts_open(self.inputs) and _starts_open(self.outputs)


def _starts_open(specs: Iterable[TensorSpec]) -> bool:
    return all(spec.shape and spec.shape[0] is None for spec in specs)
