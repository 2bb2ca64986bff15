"""The first runs of a model: it is quick when people come, and it is known whether rows may be
joined. A model whose axes were frozen at export, or whose rows look at each other, says so here.
"""

from __future__ import annotations

import numpy as np

from ml.serve.errors import LoadRefused, first_line
from ml.serve.runtimes import Runtime
from ml.serve.signature import Array, TensorSpec
from ml.serve.tensors import Inputs

OPEN_SIZES = (1, 16, 224)
"""Tried for sizes that the model leaves open, except the first."""
TOLERANCE = 1e-3


def warm_up(runtime: Runtime) -> bool:
    """Run the model; True where a batch gives each row what it gets alone.

    Raises LoadRefused where a model that leaves nothing open but the first size cannot run.
    """
    signature = runtime.signature
    names = [spec.name for spec in signature.outputs]
    has_open = any(None in spec.shape[1:] for spec in signature.inputs)
    for size in OPEN_SIZES if has_open else OPEN_SIZES[:1]:
        one = {spec.name: example(spec, rows=1, size=size) for spec in signature.inputs}
        try:
            alone = runtime.predict(one, names)
        except Exception as error:  # noqa: BLE001  (whatever the library raises)
            refusal = error
            continue
        return signature.may_be_batched and _may_join(runtime, one, alone, size)
    if not has_open:
        raise LoadRefused(f"The model cannot run: {first_line(refusal)}") from refusal
    return False  # people may know sizes that fit; nothing is known of its batches


def _may_join(runtime: Runtime, one: Inputs, alone: Inputs, size: int) -> bool:
    """Two different rows: does the first still get what it got alone?"""
    specs = runtime.signature.inputs
    other = {spec.name: example(spec, rows=1, size=size, place=1) for spec in specs}
    both = {name: np.concatenate([one[name], other[name]]) for name in one}
    try:
        joined = runtime.predict(both, list(alone))
    except Exception:  # noqa: BLE001  (a frozen axis ends in any of the library's errors)
        return False
    return all(_is_same(alone[name], joined[name]) for name in alone)


def _is_same(alone: Array, joined: Array) -> bool:
    if alone.shape[:1] != (1,) or joined.shape != (2, *alone.shape[1:]):
        return False
    if alone.dtype.kind not in "fc":
        return bool(np.array_equal(alone[0], joined[0]))
    return bool(np.allclose(alone[0], joined[0], rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))


def example(spec: TensorSpec, *, rows: int, size: int, place: int = 0) -> Array:
    """Numbers that most models take: small, and the same each time."""
    shape = [size if wanted is None else wanted for wanted in spec.shape]
    if shape and spec.shape[0] is None:
        shape[0] = rows
    if spec.datatype == "BYTES":
        return np.full(shape, "ab"[place], dtype=object)
    if np.dtype(spec.dtype).kind in "iub":
        return np.full(shape, place, dtype=spec.dtype)  # often a place in a vocabulary
    return np.random.default_rng(place).standard_normal(shape).astype(spec.dtype)
