"""How a person asks a model: the form that fits what its worker says that it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from datasets.models import DatasetVersion
from datasets.services import DatasetNotFound, find_version, read_preview
from inference.models import LoadedModel

MOST_FIELDS = 60
"""A table with more columns is asked as JSON."""
OPEN_SIZE = 1
LONGEST_EXAMPLE = 10_000
"""Numbers; of larger tensors nobody types an example."""

Tensor = dict[str, Any]
"""{name, datatype, shape}, as the worker describes it."""


@dataclass(frozen=True, kw_only=True)
class Field:
    name: str
    is_number: bool
    value: str
    is_long: bool = False
    """A text that is all there is: it may have many lines."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a person asks a model: `text` (a prompt to go on with), `row` (a field a column),
    `image`, or `tensors` (JSON)."""

    kind: str
    fields: list[Field] = field(default_factory=list)
    image: dict[str, Any] = field(default_factory=dict)
    """{name, height, width, channels, low, high, samples}: numbers of black and white."""
    example: dict[str, Any] = field(default_factory=dict)
    """Inputs of the right shape, for `tensors`."""


def take_the_same(one: LoadedModel, other: LoadedModel) -> bool:
    """Whether both can be asked by one form: prompts, or the very same tensors."""
    assert one.signature is not None
    assert other.signature is not None
    write = "context_length" in one.signature, "context_length" in other.signature
    return all(write) or (not any(write) and one.signature["inputs"] == other.signature["inputs"])


def describe_form(loaded: LoadedModel) -> Form:
    """By what its worker said that it takes; filled in with a row that the model may have seen."""
    assert loaded.signature is not None
    inputs: list[Tensor] = loaded.signature["inputs"]
    if "context_length" in loaded.signature:
        return Form(kind="text")
    dataset = _find_dataset(loaded)
    if _is_image(inputs):
        return Form(kind="image", image=_describe_image(inputs[0], dataset))
    if all(tensor["shape"] == [-1] for tensor in inputs) and len(inputs) <= MOST_FIELDS:
        row = _first_row(dataset)
        fields = [
            _describe_field(tensor, row.get(tensor["name"]), is_only=len(inputs) == 1)
            for tensor in inputs
        ]
        return Form(kind="row", fields=fields)
    return Form(kind="tensors", example={one["name"]: _example(one) for one in inputs})


def _find_dataset(loaded: LoadedModel) -> DatasetVersion | None:
    """What it was trained on, where that is known and still here."""
    name = loaded.version.lineage.get("dataset")
    try:
        return find_version(name) if isinstance(name, str) else None
    except DatasetNotFound:
        return None


def _first_row(dataset: DatasetVersion | None) -> dict[str, Any]:
    preview = _preview(dataset, 1)
    return dict(zip(preview["columns"], preview["rows"][0], strict=True)) if preview else {}


def _preview(dataset: DatasetVersion | None, rows: int) -> dict[str, Any]:
    """Empty where there is nothing to show."""
    try:
        preview = read_preview(dataset, 1, rows) if dataset else {}
    except DatasetNotFound:  # its files are gone
        return {}
    return preview if preview.get("rows") else {}


def _describe_field(tensor: Tensor, value: Any, *, is_only: bool) -> Field:
    is_number = tensor["datatype"] != "BYTES"
    return Field(
        name=tensor["name"],
        is_number=is_number,
        value="" if value is None else str(value),
        is_long=is_only and not is_number,
    )


def _is_image(inputs: list[Tensor]) -> bool:
    return len(inputs) == 1 and inputs[0]["name"] == "image" and len(inputs[0]["shape"]) in (3, 4)


def _describe_image(tensor: Tensor, dataset: DatasetVersion | None) -> dict[str, Any]:
    _, height, width, *channels = tensor["shape"]
    columns = dataset.schema["columns"] if dataset else []
    known: dict[str, Any] = next((one for one in columns if one["type"] == "image"), {})
    low, high = known.get("min"), known.get("max")
    preview = _preview(dataset, 8)
    pictures = [row[0] for row in preview.get("rows", []) if preview["types"][0] == "image"]
    return {
        "name": tensor["name"],
        "height": height,
        "width": width,
        "channels": channels[0] if channels else 1,
        "has_channels": bool(channels),
        "low": 0 if low is None else low,
        "high": 255 if high is None else high,
        "samples": pictures,
    }


def _example(tensor: Tensor) -> Any:
    """Zeros, or empty strings, of its shape; sizes that are open are one."""
    shape = [OPEN_SIZE if size < 0 else size for size in tensor["shape"]]
    if math.prod(shape) > LONGEST_EXAMPLE:
        return []
    value: Any = "" if tensor["datatype"] == "BYTES" else 0
    for size in reversed(shape):
        value = [value] * size
    return value
