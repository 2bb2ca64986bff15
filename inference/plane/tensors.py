"""Values of JSON as raw tensors and back, as ml.serve.tensors has them; without numpy.

Raw: little-endian, row-major; BYTES are, for each element, its length as a 32-bit number and its
bytes (binary tensor data extension of the Open Inference Protocol).
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from mlserver.lib.errors import Invalid

LENGTH = struct.Struct("<I")
# What the module array calls them; its sizes are those of the machine, hence the check.
CODES = {
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP32": "f",
    "FP64": "d",
}
BINARY_ONLY = ("FP16", "BF16")
assert sys.byteorder == "little"
assert all(array(code).itemsize == int(name.lstrip("UINTFP")) // 8 for name, code in CODES.items())


def flatten(name: str, data: Any, shape: Sequence[int]) -> list[Any]:
    """`data` is flat, or nested as the shape says; raises Invalid."""
    flat: list[Any] = data if isinstance(data, list) else [data]
    if flat and isinstance(flat[0], list):
        for place, size in enumerate(shape[1:], 1):
            is_regular = all(isinstance(part, list) and len(part) == size for part in flat)
            if len(flat) != math.prod(shape[:place]) or not is_regular:
                raise _unfit(name, shape)
            flat = list(chain.from_iterable(flat))
    if len(flat) != math.prod(shape):
        raise _unfit(name, shape)
    return flat


def encode(name: str, datatype: str, values: list[Any]) -> bytes:
    """Raises Invalid where a value is none of the datatype."""
    try:
        match datatype:
            case "BYTES":
                return b"".join(LENGTH.pack(len(raw := word.encode())) + raw for word in values)
            case "BOOL":
                return _encode_flags(values)
            case "FP32":
                return _encode_floats(values)
            case _ if datatype in CODES:
                return array(CODES[datatype], values).tobytes()
            case _ if datatype in BINARY_ONLY:
                raise Invalid(f"The input {name!r} is {datatype}: send it as binary data.")
    except (TypeError, AttributeError, OverflowError, ValueError) as error:
        raise Invalid(
            f"The input {name!r} holds values that are no {datatype}.", code="invalid_input"
        ) from error
    raise Invalid(f"The input {name!r} has the unknown datatype {datatype[:20]!r}.")


def decode(name: str, datatype: str, raw: memoryview) -> list[Any]:
    """A flat list; NaN and infinities become null where it is written as JSON."""
    match datatype:
        case "BYTES":
            return list(_decode_words(raw))
        case "BOOL":
            return [flag != 0 for flag in raw]
        case _ if datatype in BINARY_ONLY:
            raise Invalid(f"The output {name!r} is {datatype}: ask for it as binary data.")
    values = array(CODES[datatype])
    values.frombytes(raw)
    return values.tolist()


def _encode_flags(values: list[Any]) -> bytes:
    if not all(value in (0, 1) for value in values):
        raise ValueError
    return bytes(values)


def _encode_floats(values: list[Any]) -> bytes:
    """A number that is too large for 32 bits would silently become infinite."""
    made = array("f", values)
    if math.inf in made or -math.inf in made:
        raise OverflowError
    return made.tobytes()


def _decode_words(raw: memoryview) -> Iterator[str]:
    start = 0
    while start < len(raw):
        end = start + LENGTH.size + LENGTH.unpack_from(raw, start)[0]
        yield bytes(raw[start + LENGTH.size : end]).decode()
        start = end


def _unfit(name: str, shape: Sequence[int]) -> Invalid:
    return Invalid(
        f"The data of the input {name!r} does not have the shape {list(shape)}.",
        code="invalid_input",
    )
