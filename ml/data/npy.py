"""Reads one array in NumPy's file format, whole or in parts, without evaluating its header.

NumPy's own reader evaluates the header as a Python literal and allocates what it promises;
this one matches it against the grammar and compares the promise with the bytes that are there.
https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO

import numpy as np

from ml.data.content import Array, DataError

MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 10_000
PART_BYTES = 8 * 2**20
DESCR = re.compile(r"""['"]descr['"]\s*:\s*['"]([<>|=]?)([A-Za-z?])(\d{0,9})(\[[^'"]*)?['"]""")
ORDER = re.compile(r"""['"]fortran_order['"]\s*:\s*(True|False)""")
SHAPE = re.compile(r"""['"]shape['"]\s*:\s*\(\s*((?:\d{1,18}\s*,?\s*){0,8})\)""")


@dataclass(frozen=True)
class Header:
    dtype: np.dtype[np.generic]
    is_fortran: bool
    shape: tuple[int, ...]
    size_bytes: int
    """How many bytes the header itself takes."""

    @property
    def data_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_array(stream: IO[bytes], size_bytes: int, name: str) -> Array:
    """Read the array of a stream that holds `size_bytes`; `name` is what messages call it."""
    return _read_rows(stream, check_header(stream, size_bytes, name), name)


def read_parts(stream: IO[bytes], size_bytes: int, name: str) -> Iterator[Array]:
    """The same array a few megabytes of rows at a time; one that lies in columns comes whole."""
    header = check_header(stream, size_bytes, name)
    if header.is_fortran:
        yield _read_rows(stream, header, name)
        return
    rows, *rest = header.shape
    at_once = max(1, PART_BYTES // (math.prod(rest) * header.dtype.itemsize))
    for start in range(0, rows, at_once):
        part = replace(header, shape=(min(at_once, rows - start), *rest))
        yield _read_rows(stream, part, name)


def check_header(stream: IO[bytes], size_bytes: int, name: str) -> Header:
    """Refuse a header that promises other than what follows it."""
    header = read_header(stream, name)
    available = size_bytes - header.size_bytes
    if header.data_bytes != available:
        raise DataError(
            f"{name}: the header promises {header.data_bytes:,} bytes of values"
            f" (shape {header.shape}, type {header.dtype}), the file has {available:,}."
            " It is damaged or was cut off.",
            byte=header.size_bytes,
        )
    return header


def _read_rows(stream: IO[bytes], header: Header, name: str) -> Array:
    data = stream.read(header.data_bytes)
    if len(data) != header.data_bytes:
        raise DataError(f"{name}: the file ends after {len(data):,} bytes of values.")
    flat = np.frombuffer(data, dtype=header.dtype)
    array = flat.reshape(header.shape, order="F" if header.is_fortran else "C")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def read_header(stream: IO[bytes], name: str) -> Header:
    start = stream.read(8)
    if len(start) < 8 or not start.startswith(MAGIC):
        raise DataError(f"{name} is not a NumPy array file.", byte=0)
    width = struct.Struct("<H") if start[6] == 1 else struct.Struct("<I")
    prefix = stream.read(width.size)
    if start[6] not in (1, 2, 3) or len(prefix) < width.size:
        raise DataError(f"{name}: the header is cut off or of an unknown version.", byte=6)
    length: int = width.unpack(prefix)[0]
    if length > MAX_HEADER_BYTES:
        raise DataError(
            f"{name}: the header claims {length:,} bytes; at most {MAX_HEADER_BYTES:,} are read.",
            byte=8,
        )
    text = stream.read(length)
    if len(text) < length:
        raise DataError(f"{name}: the file ends inside the header.", byte=8)
    return _parse(text.decode("latin-1"), name, 8 + width.size + length)


def _parse(text: str, name: str, size_bytes: int) -> Header:
    order, shape = ORDER.search(text), SHAPE.search(text)
    dtype = _dtype(text, name)
    if order is None or shape is None:
        raise DataError(f"{name}: the header cannot be understood.", byte=10)
    sizes = tuple(int(size) for size in re.findall(r"\d+", shape[1]))
    if 0 in sizes:
        raise DataError(f"{name} is empty (shape {sizes}).")
    return Header(dtype, order[1] == "True", sizes, size_bytes)


def _dtype(text: str, name: str) -> np.dtype[np.generic]:
    found = DESCR.search(text)
    if found is None:
        if re.search(r"""['"]descr['"]\s*:\s*[\[(]""", text):
            raise DataError(
                f"{name} is a structured array; save plain columns instead"
                " (for instance as CSV, or features and labels as two arrays in an NPZ file)."
            )
        raise DataError(f"{name}: the header does not name a type.", byte=10)
    order, kind, width, _ = found.groups()
    if kind == "O":
        raise DataError(
            f"{name} holds Python objects (a pickle), which are never loaded;"
            " save numbers or fixed-width text: array.astype(float) or array.astype(str)."
        )
    return _plain_dtype(order, kind, width, name)


def _plain_dtype(order: str, kind: str, width: str, name: str) -> np.dtype[np.generic]:
    try:
        dtype = np.dtype(f"{order}{kind}{width}")
    except (TypeError, ValueError):
        dtype = None
    if dtype is None or dtype.kind not in "biufUS" or dtype.itemsize == 0:
        raise DataError(
            f"{name} has the type {order}{kind}{width}; numbers, truth values and text can be read."
        )
    return dtype
