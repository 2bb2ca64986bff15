"""Reads what a safetensors file says of itself: names, types and shapes, never the weights.

Standard library only. Every claim is checked against the size of the file before it is believed.
Format: https://huggingface.co/docs/safetensors/index#format
"""

import json
import math
import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

MAX_HEADER_BYTES = 16 * 2**20
LENGTH_BYTES = 8
DTYPE_BITS = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}


class HeaderError(ValueError):
    """The file is not what it claims; the text says where."""


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One named array; `size_bytes` is what its weights take in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int

    @property
    def count(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class Header:
    """Tensors in the order of the file; metadata as its writer left it."""

    tensors: tuple[Tensor, ...]
    metadata: dict[str, str]

    @property
    def parameter_count(self) -> int:
        return sum(tensor.count for tensor in self.tensors)

    def to_dict(self) -> dict[str, Any]:
        dtypes: Counter[str] = Counter()
        for tensor in self.tensors:
            dtypes[tensor.dtype] += tensor.count
        return {
            "parameter_count": self.parameter_count,
            "dtypes": dict(dtypes),
            "tensors": [asdict(tensor) | {"shape": list(tensor.shape)} for tensor in self.tensors],
            "metadata": self.metadata,
        }


def read_header(path: Path) -> Header:
    """The header of one safetensors file; raises HeaderError, or OSError when unreadable."""
    with path.open("rb") as file:
        total = os.fstat(file.fileno()).st_size
        raw = _read_raw(file, total)
    entries = _parse(raw)
    metadata = _check_metadata(entries.pop("__metadata__", {}))
    spans = {name: _check_entry(name, entry) for name, entry in entries.items()}
    ordered = sorted(spans.items(), key=lambda item: item[1][1:])
    _check_layout(ordered, total - LENGTH_BYTES - len(raw))
    return Header(tensors=tuple(tensor for _, (tensor, _, _) in ordered), metadata=metadata)


def _read_raw(file: BinaryIO, total: int) -> bytes:
    prefix = file.read(LENGTH_BYTES)
    if len(prefix) < LENGTH_BYTES:
        raise HeaderError(f"too short for a safetensors file: {total} bytes")
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER_BYTES:
        raise HeaderError(f"the header claims {length} bytes; at most {MAX_HEADER_BYTES} are read")
    if length > total - LENGTH_BYTES:
        raise HeaderError(f"the header claims {length} bytes, but the file has only {total}")
    return file.read(length)


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        # RecursionError: a header of brackets, nested deeper than the interpreter's stack.
        parsed = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        if isinstance(error, HeaderError):
            raise
        raise HeaderError(f"the header is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise HeaderError("the header is not a JSON object")
    return parsed


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        name = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise HeaderError(f"{name!r} occurs twice in the header")
    return entries


def _check_metadata(metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise HeaderError("__metadata__ must map names to strings")
    return metadata


def _check_entry(name: str, entry: Any) -> tuple[Tensor, int, int]:
    """The tensor and where its bytes begin and end, both counted from the end of the header."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise HeaderError(f"{name!r} must have dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise HeaderError(f"{name!r} has the unknown type {dtype!r}")
    if not _are_sizes(shape):
        raise HeaderError(f"{name!r} has a shape that is not a list of sizes")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise HeaderError(f"{name!r} must have two data_offsets")
    start, end = offsets
    bits = math.prod(shape) * DTYPE_BITS[dtype]
    if bits % 8 or end - start != bits // 8:
        raise HeaderError(
            f"{name!r} is {dtype} of shape {shape}, {bits} bits, but spans {end - start} bytes"
        )
    tensor = Tensor(name=name, dtype=dtype, shape=tuple(shape), size_bytes=end - start)
    return tensor, start, end


def _are_sizes(value: Any) -> bool:
    # type() and not isinstance(): True is an int, but no size.
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)


def _check_layout(ordered: list[tuple[str, tuple[Tensor, int, int]]], data_bytes: int) -> None:
    """Tensors fill the file without holes or overlaps, so nothing can hide between them."""
    position = 0
    for name, (_, start, end) in ordered:
        if start != position:
            raise HeaderError(f"{name!r} begins at byte {start}, expected {position}")
        position = end
    if position != data_bytes:
        raise HeaderError(f"the tensors take {position} bytes, but {data_bytes} follow the header")
