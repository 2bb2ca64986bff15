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
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ml.data.archive import ARCHIVE_ERRORS
from ml.formats.header import DTYPE_BITS, LENGTH_BYTES
from ml.formats.refusal import ModelRefused

MAX_PICKLE_BYTES = 64 * 2**20
WHERE_WEIGHTS_LIE = ("state_dict", "model_state_dict", "model")
"""In a checkpoint that holds more than weights; the first that has tensors counts."""
SHARED = 4
"""Tensors that share a storage are written each, an embedding four times where encoder, decoder and
head are tied to it; together at most so many times the file."""
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
    with _opened(path) as parts:
        tensors = _find_weights(read_pickle(parts.read("data.pkl", MAX_PICKLE_BYTES)))
        if sum(each.size_bytes for each in tensors.values()) > SHARED * path.stat().st_size:
            raise Unreadable("its tensors are larger than the file")
        # One storage after the other: each is read once.
        storages: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            storages.setdefault(tensor.storage, {})[name] = tensor
        with target.open("wb") as file:
            _write_header((item for group in storages.values() for item in group.items()), file)
            for key, group in storages.items():
                storage = parts.read(f"data/{key}")
                for name, tensor in group.items():
                    file.write(_take_values(name, tensor, storage))


def look_through(path: Path) -> None:
    """Raises ModelRefused where `path` asks for anything but tensors and plain values."""
    with _opened(path) as parts:
        read_pickle(parts.read("data.pkl", MAX_PICKLE_BYTES))


# --- The ZIP ------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path) -> Iterator[Parts]:
    """What is wrong with it becomes a refusal."""
    try:
        with _reading():
            archive = zipfile.ZipFile(path)
        with archive:
            yield Parts(archive, path.stat().st_size)
    except Unreadable as error:
        raise ModelRefused(
            f"{path.name} is a pickle, which runs code when it is opened, and is never opened here."
            f" Of the weights that torch.save(model.state_dict(), …) writes it could be read"
            f" without that, but {error}. Save the weights as safetensors"
            " (safetensors.torch.save_file) or the model as ONNX.",
            code="pickle",
        ) from error


@contextmanager
def _reading() -> Iterator[None]:
    """Apart from writing, whose errors are the disk's."""
    try:
        yield
    except ARCHIVE_ERRORS as error:
        raise Unreadable(f"the archive is damaged ({str(error)[:200]})") from error


class Parts:
    """The members of an archive, by their names in its only folder."""

    def __init__(self, archive: zipfile.ZipFile, size_bytes: int) -> None:
        self._archive = archive
        infos = archive.infolist()
        if not infos:
            raise Unreadable("it is empty")
        root = infos[0].filename.split("/", 1)[0] + "/"
        self._found = {info.filename.removeprefix(root): info for info in infos}
        if len(self._found) < len(infos) or any(
            not info.filename.startswith(root) for info in infos
        ):
            raise Unreadable("it holds a name twice, or several folders")
        if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
            raise Unreadable("its parts are compressed, which torch never does")
        if sum(info.file_size for info in infos) > size_bytes:
            raise Unreadable("its parts lie in one another")  # a bomb: each read anew
        if "byteorder" in self._found and self.read("byteorder", 100) != b"little":
            raise Unreadable("its numbers are not little-endian")

    def read(self, name: str, most: float = math.inf) -> bytes:
        if name not in self._found:
            raise Unreadable(f"{name[:100]} is missing")
        if (size := self._found[name].file_size) > most:
            raise Unreadable(f"{name} has {size:,} bytes; at most {most:,} are read")
        with _reading():
            return self._archive.read(self._found[name])


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
                if not all(map(_is_key, values[::2])):
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


def _is_key(value: Any) -> bool:
    """Texts, and the small numbers of optimizers: those that are large all hash alike."""
    return type(value) is str or (type(value) is int and abs(value) < 2**32)


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
        case (
            Name("torch._utils _rebuild_tensor_v2"),
            (Tensor() as whole, at, shape, strides, _, _, *changed),
        ):
            _require_plain(changed)
            return replace(whole, offset=at, shape=shape, strides=strides)
        case (
            Name("torch._utils _rebuild_tensor_v3"),
            (Tensor() as whole, at, shape, strides, _, _, Name(kind), *changed),
        ):
            _require_plain(changed)
            dtype = LATER_DTYPES[kind]
            return replace(whole, dtype=dtype, offset=at, shape=shape, strides=strides)
    raise ValueError("something is called with what it does not take")


def _require_plain(changed: list[Any]) -> None:
    if any(changed):
        raise Unreadable(
            "a tensor is conjugated or negated: .resolve_conj().resolve_neg() makes it plain"
        )


# --- The tensors --------------------------------------------------------------------------


def _find_weights(content: Any) -> dict[str, Tensor]:
    """All that lies beside them in a checkpoint is left out; what lies among them is refused."""
    inside = content if isinstance(content, dict) else {}
    candidates: list[Any] = [*map(inside.get, WHERE_WEIGHTS_LIE), content]
    found = next(filter(_has_tensors, candidates), None)
    if found is None:
        raise Unreadable("it holds no tensors with names")
    for name, tensor in found.items():
        if not isinstance(name, str) or name == "__metadata__":
            raise Unreadable(f"a tensor cannot have the name {str(name)[:100]!r}")
        if not isinstance(tensor, Tensor):
            raise Unreadable(f"{name[:100]!r}, among its tensors, is no tensor")
        _check(name, tensor)
    return dict(found)


def _has_tensors(content: Any) -> bool:
    return isinstance(content, dict) and any(isinstance(each, Tensor) for each in content.values())


def _check(name: str, tensor: Tensor) -> None:
    if not type(tensor.shape) is type(tensor.strides) is tuple:
        raise Unreadable(f"the shape of {name[:100]!r} is none")
    numbers = (*tensor.shape, *tensor.strides, tensor.offset)
    if not all(type(each) is int and 0 <= each < 2**48 for each in numbers):
        raise Unreadable(f"the shape of {name[:100]!r} is not one of sizes")
    if len(tensor.shape) != len(tensor.strides) or len(tensor.shape) > 64:
        raise Unreadable(f"{name[:100]!r} has not as many strides as sizes")


def _write_header(tensors: Iterable[tuple[str, Tensor]], file: BinaryIO) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors:
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
