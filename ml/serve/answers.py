"""What models of rows answer: `label`, `probability`, `probabilities` (N, classes); or `value`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ml.serve.signature import Array, TensorSpec
from ml.serve.tensors import Inputs

Classes = Sequence[Any] | None
"""None: the model answers with a number."""


def describe_answers(classes: Classes) -> tuple[TensorSpec, ...]:
    if classes is None:
        return (TensorSpec(name="value", datatype="FP64", shape=(None,)),)
    label = "INT64" if _label_type(classes) is np.int64 else "BYTES"
    return (
        TensorSpec(name="label", datatype=label, shape=(None,)),
        TensorSpec(name="probability", datatype="FP64", shape=(None,)),
        TensorSpec(name="probabilities", datatype="FP64", shape=(None, len(classes))),
    )


def as_classes(classes: Classes) -> tuple[Any, ...] | None:
    """For a signature."""
    return None if classes is None else tuple(classes)


def from_shares(classes: Sequence[Any], shares: Array) -> Inputs:
    """`shares`: (N, classes), float64."""
    labels = np.array(classes, dtype=_label_type(classes))
    return {
        "label": labels[shares.argmax(axis=1)],
        "probability": shares.max(axis=1),
        "probabilities": shares,
    }


def _label_type(classes: Sequence[Any]) -> type[np.generic]:
    return np.int64 if all(type(label) is int for label in classes) else np.object_
