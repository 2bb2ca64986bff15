"""Walks over the raw bytes of an ONNX file before any library parses them.

A few bytes can announce a nesting that overflows a parser's stack, or millions of parts. Here
every part is measured first, without recursion and without copying.
Encoding: https://protobuf.dev/programming-guides/encoding/
Fields: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

import mmap
from pathlib import Path

from ml.formats.refusal import ModelRefused

MAX_BYTES = 2**31 - 1
"""What a protobuf message may have."""
MAX_DEPTH = 50
MAX_PARTS = 2_000_000
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5

# Message: its fields that hold other messages. What is not named here is a value.
MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 11: "value", 12: "value", 13: "value", 15: "sparse"},
    "function": {7: "node", 11: "attribute", 12: "value"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 14: "type", 15: "type",
        22: "sparse", 23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "value": {2: "type"},
    "type": {4: "element", 5: "element", 9: "element"},
    "element": {1: "type", 2: "type"},
    "tensor": {},
}  # fmt: skip


def check_nesting(path: Path) -> None:
    """Raises ModelRefused where the file is no protobuf, or too large, deep or manifold."""
    size = path.stat().st_size
    if not 0 < size <= MAX_BYTES:
        raise ModelRefused(
            f"{path.name} has {size:,} bytes; an ONNX file has 1 to {MAX_BYTES:,}."
            " Save large weights as external data beside it.",
            code="too_large",
        )
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        _walk(data, size, path.name)


def _walk(data: mmap.mmap, size: int, name: str) -> None:
    waiting, parts = [("model", 0, size, 1)], 0
    while waiting:
        message, position, end, depth = waiting.pop()
        parts += 1
        if depth > MAX_DEPTH:
            raise ModelRefused(
                f"{name} nests graphs more than {MAX_DEPTH} deep, which crashes parsers;"
                " export it without nested control flow."
            )
        if parts + len(waiting) > MAX_PARTS:
            raise ModelRefused(f"{name} has more than {MAX_PARTS:,} parts; it is not read.")
        while position < end:
            field, start, position = _next_field(data, position, end, name)
            if inner := MESSAGES[message].get(field):
                waiting.append((inner, start, position, depth + 1))


def _next_field(data: mmap.mmap, position: int, end: int, name: str) -> tuple[int, int, int]:
    """Its number, and where its value begins and ends."""
    key, start = _varint(data, position, end, name)
    wire = key & 7
    if wire == VARINT:
        stop = _varint(data, start, end, name)[1]
    elif wire == LENGTH:
        length, start = _varint(data, start, end, name)
        stop = start + length
    elif wire in (FIXED64, FIXED32):
        stop = start + (8 if wire == FIXED64 else 4)
    else:
        raise _damaged(name, position)
    if stop > end or key >> 3 == 0:
        raise _damaged(name, position)
    return key >> 3, start, stop


def _varint(data: mmap.mmap, position: int, end: int, name: str) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if position + place >= end:
            break
        byte = data[position + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, position + place + 1
    raise _damaged(name, position)


def _damaged(name: str, position: int) -> ModelRefused:
    return ModelRefused(
        f"{name} is no ONNX model, or is damaged at byte {position:,}; export it again with"
        " torch.onnx.export."
    )
