"""Inputs of a request as arrays, outputs as bytes or JSON; nothing is cast that would change.

Raw tensors are little-endian and row-major; BYTES are, for each element, its length as a 32-bit
number and its bytes (binary tensor data extension of the Open Inference Protocol).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from ml.serve.errors import InvalidInput
from ml.serve.numbers import read_numbers
from ml.serve.signature import DATATYPES, Array, Signature, TensorSpec

LENGTH = struct.Struct("<I")
NAMES = {np.dtype(kind): name for name, kind in DATATYPES.items()}

Inputs = dict[str, Array]


def read_inputs(header: Mapping[str, Any], body: bytes, signature: Signature) -> Inputs:
    """Every input of the model as an array of its datatype and shape; raises InvalidInput."""
    if header.get("encoding") == "tensors":
        arrays = _read_tensors(header.get("tensors"), body, signature)
    else:
        arrays = read_json(body, signature, header.get("member"), header.get("beside"))
    for spec in signature.inputs:
        if spec.name not in arrays:
            raise InvalidInput(f"The input {spec.name!r} is missing.", field=spec.name)
        _check_shape(spec, arrays[spec.name])
    return arrays


def _find(name: Any, signature: Signature) -> TensorSpec:
    for spec in signature.inputs:
        if spec.name == name:
            return spec
    known = ", ".join(spec.name for spec in signature.inputs[:20])
    raise InvalidInput(
        f"There is no input {str(name)[:100]!r}; the model takes {known}.", field=str(name)[:100]
    )


def _check_shape(spec: TensorSpec, array: Array) -> None:
    is_fitting = len(array.shape) == len(spec.shape) and all(
        wanted in (None, size) for wanted, size in zip(spec.shape, array.shape, strict=True)
    )
    if not is_fitting:
        wanted = [-1 if size is None else size for size in spec.shape]
        raise InvalidInput(
            f"The input {spec.name!r} has the shape {list(array.shape)}; the model takes {wanted}.",
            field=spec.name,
        )


# --- JSON ---------------------------------------------------------------------------------


def read_json(
    body: bytes, signature: Signature, member: str | None, beside: dict[str, Any] | None
) -> Inputs:
    """Of the body, or of what an object there holds as `member`. `beside` is what that object
    must hold beside it, and nothing else; None: it may hold what it likes."""
    if (plain := read_numbers(body, signature, member, beside)) is not None:
        return plain
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"The inputs are not valid JSON: {error.msg}.") from error
    if member is not None and isinstance(values, dict):
        if beside is not None and values != {**beside, member: values.get(member)}:
            raise InvalidInput("The body does not hold what was told of it.")
        values = values.get(member)
    if isinstance(values, list):
        values = _from_list(values, signature)
    if not isinstance(values, dict):
        raise InvalidInput("The inputs must be an object {name: values}, or a list of rows.")
    return {name: from_json(_find(name, signature), value) for name, value in values.items()}


def _from_list(rows: list[Any], signature: Signature) -> dict[str, Any]:
    """Rows of a table become columns; a bare list is the input of a model that has only one."""
    if rows and all(isinstance(row, dict) for row in rows):
        names = list(dict.fromkeys(name for row in rows for name in row))
        for place, row in enumerate(rows, 1):
            if len(row) != len(names):
                lacking = next(name for name in names if name not in row)
                raise InvalidInput(f"Row {place} lacks the input {lacking!r}.", field=lacking)
        return {name: [row[name] for row in rows] for name in names}
    if len(signature.inputs) != 1:
        names = [spec.name for spec in signature.inputs[:20]]
        raise InvalidInput(f"The model takes {', '.join(names)}: name each of them.")
    return {signature.inputs[0].name: rows}


def from_json(spec: TensorSpec, value: Any) -> Array:
    """Nested lists as an array of exactly the datatype: 1.5 is no INT64, "1.5" is no FP32."""
    if spec.datatype == "BYTES":
        return _words(spec, value)
    try:
        found = np.asarray(value)
    except ValueError as error:
        raise InvalidInput(
            f"The input {spec.name!r} is ragged: its lists have unequal lengths.", field=spec.name
        ) from error
    if found.dtype == object and spec.is_column:
        found = _fill_gaps(found)
    if found.dtype.kind not in "biuf" and found.size:
        raise InvalidInput(
            f"The input {spec.name!r} must hold numbers ({spec.datatype}).", field=spec.name
        )
    return _cast(spec, found)


def _fill_gaps(found: Array) -> Array:
    is_empty = np.array([value is None for value in found.flat]).reshape(found.shape)
    filled = np.where(is_empty, np.nan, found)
    are_numbers = all(type(value) in (int, float) for value in filled.flat)
    return filled.astype(np.float64) if are_numbers else filled


def _cast(spec: TensorSpec, found: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        cast = found.astype(spec.dtype)
    is_kept = not np.isinf(cast).any() if cast.dtype.kind == "f" else np.array_equal(cast, found)
    if not is_kept:
        raise InvalidInput(
            f"The input {spec.name!r} holds numbers that {spec.datatype} cannot; send others.",
            field=spec.name,
        )
    return np.ascontiguousarray(cast).reshape(found.shape)


def _words(spec: TensorSpec, value: Any) -> Array:
    found = np.asarray(value, dtype=object)
    for word in found.flat:
        if not isinstance(word, str) and not (spec.is_column and _is_cell(word)):
            raise InvalidInput(f"The input {spec.name!r} must hold strings.", field=spec.name)
    return found


def _is_cell(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float)


def to_json(outputs: Mapping[str, Array]) -> bytes:
    """{name: nested lists}; NaN and infinities, which JSON does not know, become null."""
    plain = {
        name: array.tolist() if array.dtype == object else np.ascontiguousarray(array)
        for name, array in outputs.items()
    }
    return orjson.dumps(plain, option=orjson.OPT_SERIALIZE_NUMPY)


# --- Raw tensors --------------------------------------------------------------------------


def _read_tensors(described: Any, body: bytes, signature: Signature) -> Inputs:
    arrays, start = {}, 0
    for entry in described if isinstance(described, list) else []:
        spec = _find(entry.get("name"), signature)
        size, shape = entry.get("size_bytes"), entry.get("shape")
        if entry.get("datatype") != spec.datatype:
            raise InvalidInput(
                f"The input {spec.name!r} is {entry.get('datatype')}; the model takes"
                f" {spec.datatype}.",
                field=spec.name,
            )
        if not (_are_sizes(shape) and type(size) is int and 0 <= size <= len(body) - start):
            raise InvalidInput(
                f"The input {spec.name!r} needs a shape, and a size within the body.",
                field=spec.name,
            )
        arrays[spec.name] = _decode(spec, memoryview(body)[start : start + size], shape)
        start += size
    if start != len(body):
        raise InvalidInput(f"{len(body) - start} bytes of the body belong to no input.")
    return arrays


def _are_sizes(shape: Any) -> bool:
    return isinstance(shape, list) and all(type(n) is int and 0 <= n < 2**32 for n in shape)


def _decode(spec: TensorSpec, raw: memoryview, shape: list[int]) -> Array:
    count = math.prod(shape)
    if spec.datatype == "BYTES":
        return _decode_words(spec, raw, count).reshape(shape)
    wanted = count * np.dtype(spec.dtype).itemsize
    if len(raw) != wanted:
        raise InvalidInput(
            f"The input {spec.name!r} of shape {shape} takes {wanted} bytes; {len(raw)} came.",
            field=spec.name,
        )
    return np.frombuffer(raw, dtype=spec.dtype).reshape(shape)


def _decode_words(spec: TensorSpec, raw: memoryview, count: int) -> Array:
    words, start = [], 0
    while start < len(raw):
        end = start + LENGTH.size
        length = LENGTH.unpack_from(raw, start)[0] if end <= len(raw) else len(raw)
        if end + length > len(raw):
            break
        words.append(bytes(raw[end : end + length]))
        start = end + length
    if start != len(raw) or len(words) != count:
        raise InvalidInput(
            f"The input {spec.name!r} must be {count} strings, each with its length before it.",
            field=spec.name,
        )
    try:
        return np.array([word.decode() for word in words], dtype=object)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"The input {spec.name!r} is not UTF-8.", field=spec.name) from error


def to_tensors(outputs: Mapping[str, Array]) -> tuple[list[dict[str, Any]], list[memoryview]]:
    """What describes the tensors in a header, and their bytes."""
    described, parts = [], []
    for name, array in outputs.items():
        raw = _encode(array)
        kind = {"name": name, "datatype": NAMES[array.dtype], "shape": list(array.shape)}
        described.append({**kind, "size_bytes": len(raw)})
        parts.append(raw)
    return described, parts


def _encode(array: Array) -> memoryview:
    if array.dtype == object:
        words: Sequence[bytes] = [str(word).encode() for word in array.flat]
        return memoryview(b"".join(LENGTH.pack(len(word)) + word for word in words))
    # As bytes first: a memoryview cannot be cast where a size is zero.
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
