"""Writes the weights of a torch.save file as safetensors, without unpickling it.

Such a file is a ZIP of raw storages and a pickle that says which tensor lies where. Of the pickle's
instructions those are followed here that a dictionary of tensors needs; they can build nothing but
plain values. Whatever else is asked for, a function above all, is refused by its name.
Formats: pickletools.py of Python, torch/_utils.py (_rebuild_tensor_v2), ml.formats.header
"""

from __future__ import annotations

import json
import math
import pickletools
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ml.formats.header import DTYPE_BITS, LENGTH_BYTES
from ml.formats.refusal import ModelRefused

MAX_PICKLE_BYTES = 64 * 2**20
WHERE_WEIGHTS_LIE = ("state_dict", "model_state_dict", "model")
"""In a checkpoint that holds more than weights; the first that is there counts."""
SHARED = 2
"""Tensors that share a storage are written each; together at most so many times the file."""
STORAGES = {
    "torch DoubleStorage": "F64",
    "torch FloatStorage": "F32",
    "torch HalfStorage": "F16",
    "torch BFloat16Storage": "BF16",
    "torch ComplexFloatStorage": "C64",
    "torch LongStorage": "I64",
    "torch IntStorage": "I32",
    "torch ShortStorage": "I16",
    "torch CharStorage": "I8",
    "torch ByteStorage": "U8",
    "torch BoolStorage": "BOOL",
    "torch.storage UntypedStorage": "U8",
}
LATER_DTYPES = {  # those without a storage of their own
    "torch uint16": "U16",
    "torch uint32": "U32",
    "torch uint64": "U64",
    "torch float8_e4m3fn": "F8_E4M3",
    "torch float8_e5m2": "F8_E5M2",
}
FUNCTIONS = {
    "collections OrderedDict",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor_v3",
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}


class Unreadable(Exception):
    """It is no state dict, or a damaged one; the text says where."""


@dataclass(frozen=True)
class Name:
    """What the pickle would import. It is compared, never looked up."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """Values of a storage; `offset` and `strides` count values."""

    storage: str
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...] = (1,)
    offset: int = 0

    @property
    def item_bytes(self) -> int:
        return DTYPE_BITS[self.dtype] // 8

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * self.item_bytes


def convert_state_dict(path: Path, target: Path) -> None:
    """Write the tensors of `path` with their names into the safetensors file `target`.

    Raises ModelRefused where there is more than tensors and plain values, or it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive, target.open("wb") as file:
            members = _find_members(archive)
            tensors = _find_weights(read_pickle(_read(archive, members, "data.pkl")))
            if sum(each.size_bytes for each in tensors.values()) > SHARED * path.stat().st_size:
                raise Unreadable("its tensors are larger than the file")
            _write_header(tensors, file)
            key, storage = "", b""
            for name, tensor in tensors.items():
                if tensor.storage != key:  # neighbours often share one
                    key = tensor.storage
                    storage = _read(archive, members, f"data/{key}", most=None)
                file.write(_take_values(name, tensor, storage))
    except (Unreadable, zipfile.BadZipFile, EOFError, ValueError, RuntimeError) as error:
        raise ModelRefused(
            f"{path.name} is a pickle, which runs code when it is opened, and is never opened here."
            f" Of the weights that torch.save(model.state_dict(), …) writes it could be read"
            f" without that, but {error}. Save the weights as safetensors"
            " (safetensors.torch.save_file) or the model as ONNX.",
            code="pickle",
        ) from error


# --- The ZIP ------------------------------------------------------------------------------


def _find_members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """By their names in the archive's only folder."""
    infos = archive.infolist()
    if not infos:
        raise Unreadable("it is empty")
    root = infos[0].filename.split("/", 1)[0] + "/"
    found = {info.filename.removeprefix(root): info for info in infos}
    if len(found) < len(infos) or not all(info.filename.startswith(root) for info in infos):
        raise Unreadable("it holds a name twice, or several folders")
    if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
        raise Unreadable("its parts are compressed, which torch never does")
    if "byteorder" in found and archive.read(found["byteorder"]) != b"little":
        raise Unreadable("its numbers are not little-endian")
    return found


def _read(
    archive: zipfile.ZipFile,
    members: Mapping[str, zipfile.ZipInfo],
    name: str,
    most: int | None = MAX_PICKLE_BYTES,
) -> bytes:
    if name not in members:
        raise Unreadable(f"{name[:100]} is missing")
    if most is not None and members[name].file_size > most:
        raise Unreadable(f"{name} has {members[name].file_size:,} bytes; at most {most:,} are read")
    return archive.read(members[name])


# --- The pickle ---------------------------------------------------------------------------


def read_pickle(content: bytes) -> Any:
    """What it describes, of None, booleans, numbers, texts, lists, tuples, dictionaries and
    Tensor. Raises Unreadable at the first instruction that could make anything else."""
    reader = _Reader()
    try:
        for instruction, argument, _ in pickletools.genops(content):
            reader.follow(instruction.name, argument)
        [value] = reader.stack
    except (ValueError, IndexError, KeyError, TypeError, RecursionError) as error:
        raise Unreadable(f"its pickle is damaged ({str(error)[:200]})") from error
    return value


class _Reader:
    """The machine that a pickle is written for, with few of its instructions."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        """What lies above the newest mark."""
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def follow(self, instruction: str, argument: Any) -> None:
        match instruction:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                self.stack.append(CONSTANTS[instruction])
            case (
                "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE"
                | "SHORT_BINUNICODE"
            ):  # fmt: skip
                self.stack.append(argument)
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                self.stack.append(EMPTY[instruction]())
            case "MARK":
                self._below.append(self.stack)
                self.stack = []
            case "TUPLE":
                values = self._pop_to_mark()
                self.stack.append(tuple(values))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self.stack.append(tuple(self._pop(int(instruction[-1]))))
            case "APPEND" | "APPENDS":
                values = self._pop(1) if instruction == "APPEND" else self._pop_to_mark()
                self._top(list).extend(values)
            case "SETITEM" | "SETITEMS":
                values = self._pop(2) if instruction == "SETITEM" else self._pop_to_mark()
                if not all(type(key) in (str, int) for key in values[::2]):
                    raise ValueError("a name is no text")  # and may be endless to hash
                self._top(dict).update(zip(values[::2], values[1::2], strict=True))
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self.stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = self.stack[-1]
            case "BINGET" | "LONG_BINGET":
                self.stack.append(self._memo[argument])
            case "GLOBAL":
                self.stack.append(_known(argument))
            case "STACK_GLOBAL":
                self.stack.append(_known(" ".join(self._pop(2))))
            case "BINPERSID":
                self.stack.append(_storage(*self._pop(1)))
            case "REDUCE":
                function, arguments = self._pop(2)
                self.stack.append(_call(function, arguments))
            case "BUILD":  # attributes of the dictionary itself, as its _metadata
                self._pop(1)
                self._top(dict)
            case _:
                raise Unreadable(f"its pickle has the instruction {instruction}")

    def _pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError("its stack is empty")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def _pop_to_mark(self) -> list[Any]:
        values, self.stack = self.stack, self._below.pop()
        return values

    def _top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise ValueError(f"a {type(self.stack[-1]).__name__} is no {kind.__name__}")
        return self.stack[-1]


def _known(name: str) -> Name:
    if name not in FUNCTIONS | STORAGES.keys() | LATER_DTYPES.keys():
        raise Unreadable(f"it calls for {name.replace(' ', '.')[:100]}")
    return Name(name)


def _storage(identity: Any) -> Tensor:
    """All of a storage, as bytes or as what its kind says."""
    kind, name, key, _, count = identity
    if kind != "storage" or not isinstance(key, str) or not isinstance(name, Name):
        raise ValueError("a storage is not described as torch does it")
    return Tensor(storage=key, dtype=STORAGES[name.text], shape=(count,))


def _call(function: Any, arguments: Any) -> Any:
    match function, arguments:
        case Name("collections OrderedDict"), ():
            return {}
        case Name("torch._utils _rebuild_parameter"), (Tensor() as tensor, _, _):
            return tensor
        case Name("torch._utils _rebuild_tensor_v2"), (Tensor() as whole, at, shape, strides, *_):
            return replace(whole, offset=at, shape=shape, strides=strides)
        case (
            Name("torch._utils _rebuild_tensor_v3"),
            (Tensor() as whole, at, shape, strides, _, _, Name(kind), *_),
        ):
            dtype = LATER_DTYPES[kind]
            return replace(whole, dtype=dtype, offset=at, shape=shape, strides=strides)
    raise ValueError("something is called with what it does not take")


# --- The tensors --------------------------------------------------------------------------


def _find_weights(content: Any) -> dict[str, Tensor]:
    if isinstance(content, dict) and not _tensors_of(content):
        content = next((content[name] for name in WHERE_WEIGHTS_LIE if name in content), None)
    found = _tensors_of(content) if isinstance(content, dict) else {}
    if not found:
        raise Unreadable("it holds no tensors with names")
    for name, tensor in found.items():
        _check(name, tensor)
    return found


def _tensors_of(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _check(name: str, tensor: Tensor) -> None:
    if not type(tensor.shape) is type(tensor.strides) is tuple:
        raise Unreadable(f"the shape of {name[:100]!r} is none")
    numbers = (*tensor.shape, *tensor.strides, tensor.offset)
    if not all(type(each) is int and 0 <= each < 2**48 for each in numbers):
        raise Unreadable(f"the shape of {name[:100]!r} is not one of sizes")
    if len(tensor.shape) != len(tensor.strides) or len(tensor.shape) > 64:
        raise Unreadable(f"{name[:100]!r} has not as many strides as sizes")


def _write_header(tensors: Mapping[str, Tensor], file: BinaryIO) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.size_bytes
        header[name] = {
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": (start, end),
        }
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    file.write(len(raw).to_bytes(LENGTH_BYTES, "little") + raw)


def _take_values(name: str, tensor: Tensor, storage: bytes) -> memoryview:
    """The tensor's values one after another, whatever their order in the storage; not copied where
    they lie there like that."""
    if 0 in tensor.shape:
        return memoryview(b"")
    steps = zip(tensor.shape, tensor.strides, strict=True)
    last = tensor.offset + sum((size - 1) * step for size, step in steps)
    if len(storage) % tensor.item_bytes:
        raise Unreadable(f"the storage of {name[:100]!r} is damaged")
    values = np.frombuffer(storage, np.dtype(f"V{tensor.item_bytes}"))
    if last >= len(values):
        raise Unreadable(f"{name[:100]!r} does not lie in its storage")
    strides = [step * tensor.item_bytes for step in tensor.strides]
    view = as_strided(values[tensor.offset :], tensor.shape, strides, writeable=False)
    return np.ascontiguousarray(view).reshape(-1).view(np.uint8).data
