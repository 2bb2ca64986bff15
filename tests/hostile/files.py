"""Files as an attacker would send them, made on the spot: small to send, costly to open."""

import io
import json
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import FunctionProto, TensorProto, helper

from tests.models_registry.brought import (
    TOKENIZER,
    as_bytes,
    external_tensor,
    onnx_bytes,
    pack_tar,
    pack_zip,
    t5_folder,
    weights,
)
from tests.models_registry.exported import exported_bytes

Door = Literal["models", "datasets"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One file with the words that its refusal must contain."""

    door: Door
    name: str
    make: Callable[[], bytes]
    reason: str


class Evil:
    """Unpickled, it writes a file."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.write_text, (Path(self.marker), "owned")


MARKER = "/tmp/mlserver-hostile-marker"  # nothing may ever write it


def evil_pickle(protocol: int = 4, marker: str = MARKER) -> bytes:
    return pickle.dumps(Evil(marker), protocol)


def torch_saved() -> bytes:
    """What torch.save writes: a ZIP around a pickle."""
    return pack_zip({"archive/data.pkl": evil_pickle(2), "archive/version": b"3\n"})


def object_array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([Evil(MARKER)], dtype=object), allow_pickle=True)
    return stream.getvalue()


@cache
def nested_functions(count: int = 3000) -> bytes:
    """Each function calls the next: a runtime that unfolds them overflows its stack."""
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]

    def function(number: int) -> FunctionProto:
        last = number == count - 1
        call = (
            helper.make_node("Relu", ["a"], ["b"])
            if last
            else helper.make_node(f"f{number + 1}", ["a"], ["b"], domain="local")
        )
        return helper.make_function("local", f"f{number}", ["a"], ["b"], [call], opset)

    call = helper.make_node("f0", ["x"], ["y"], domain="local")
    return onnx_bytes(call, functions=tuple(function(number) for number in range(count)))


def doubling_functions(count: int = 30) -> bytes:
    """Each function calls the next twice: 2³⁰ operators."""
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]

    def function(number: int) -> FunctionProto:
        name, domain = (f"f{number + 1}", "local") if number < count - 1 else ("Relu", "")
        calls = [
            helper.make_node(name, ["a"], ["m"], domain=domain),
            helper.make_node(name, ["m"], ["b"], domain=domain),
        ]
        return helper.make_function("local", f"f{number}", ["a"], ["b"], calls, opset)

    call = helper.make_node("f0", ["x"], ["y"], domain="local")
    return onnx_bytes(call, functions=tuple(function(number) for number in range(count)))


def nested_graphs(depth: int = 5000) -> bytes:
    """Fields inside fields by hand: Model.graph.node.attribute.g.node.attribute.g …"""
    content = b""
    for _ in range(depth):
        for key in (0x32, 0x2A, 0x0A):  # Attribute.g, Node.attribute, Graph.node
            content = bytes([key]) + _length(len(content)) + content
    return b"\x08\x0a" + b"\x3a" + _length(len(content)) + content


def _length(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def huge_tensor() -> bytes:
    """A handful of bytes that ask for 4 GiB of random numbers."""
    node = helper.make_node("RandomNormal", [], ["r"], shape=[2**30])
    graph = helper.make_graph(
        [node], "g", [], [helper.make_tensor_value_info("r", TensorProto.FLOAT, [2**30])]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def constant_of_huge_shape() -> bytes:
    shape = helper.make_tensor("s", TensorProto.INT64, [2], [2**16, 2**16])
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["c"]),
        helper.make_node("ReduceSum", ["c"], ["t"], keepdims=0),
        helper.make_node("Add", ["x", "t"], ["y"]),
    ]
    return onnx_bytes(*nodes, weights=(shape,))


def promised_tensor() -> bytes:
    """An initializer of 4 GiB without its values."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2**30])
    return onnx_bytes(helper.make_node("Add", ["x", "w"], ["y"]), weights=(tensor,))


def outside_data(location: str) -> bytes:
    node = helper.make_node("Add", ["x", "w"], ["y"])
    return onnx_bytes(node, weights=(external_tensor(location),))


@cache
def long_header(size: int = 84 * 10**6) -> bytes:
    """A safetensors file of 84 MB that is all header."""
    entry = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}
    header = json.dumps({"__metadata__": {"a": "x"}, "w": entry}).encode().ljust(size)
    return len(header).to_bytes(8, "little") + header + b"\0"


def linked_tar(kind: bytes, target: str) -> bytes:
    member = tarfile.TarInfo("link.safetensors")
    member.type, member.linkname = kind, target
    return pack_tar(t5_folder(), member)


def linked_zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo("config.json")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return stream.getvalue()


@cache
def zip_bomb() -> bytes:
    return pack_zip({"model.safetensors": bytes(200_000_000)}, compression=zipfile.ZIP_DEFLATED)


@cache
def tar_bomb() -> bytes:
    return pack_tar({"model.safetensors": bytes(200_000_000)})


def lying_zip() -> bytes:
    """Its directory announces 100 bytes, its data unpacks to 200 MB."""
    honest = bytearray(zip_bomb())
    size = struct.pack("<I", 200_000_000)
    place = honest.find(size)
    while place >= 0:
        honest[place : place + 4] = struct.pack("<I", 100)
        place = honest.find(size)
    return bytes(honest)


@cache
def long_parquet() -> bytes:
    """300 million rows of one value, run-length encoded into kilobytes."""
    stream = io.BytesIO()
    part = pa.table({"label": pa.DictionaryArray.from_arrays(np.zeros(10**7, np.int8), ["a"])})
    with pq.ParquetWriter(stream, part.schema, compression="zstd") as writer:
        for _ in range(30):
            writer.write_table(part)
    return stream.getvalue()


@cache
def wide_csv() -> bytes:
    names = ",".join(f"c{number}" for number in range(5_000_000))
    return f"{names}\n{'1,' * 4_999_999}1\n".encode()


@cache
def large_png(side: int = 13_000) -> bytes:
    """A ZIP of two images of 169 million pixels, kilobytes each."""
    line = b"\0" + bytes(side)
    packer = zlib.compressobj(9)
    data = b"".join([*(packer.compress(line) for _ in range(side)), packer.flush()])
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return pack_zip({"cats/1.png": png, "dogs/1.png": png})


def with_tokenizer(**changed: Any) -> bytes:
    return pack_zip(t5_folder(**{"tokenizer.json": as_bytes(TOKENIZER | changed)}))


def code_as_size(marker: str = MARKER) -> bytes:
    """An exported program whose number of rows is an expression that writes a file."""

    def change(program: Any) -> None:
        size = program["graph_module"]["graph"]["tensor_values"]["x"]["sizes"][0]
        size["as_expr"]["expr_str"] = f"__import__('pathlib').Path('{marker}').write_text('owned')"

    return exported_bytes(change)


def huge_program() -> bytes:
    def change(program: Any) -> None:
        program["graph_module"]["graph"]["tensor_values"]["m"]["sizes"] = [{"as_int": 2**40}] * 2

    return exported_bytes(change)


def nested_zip(levels: int = 10) -> bytes:
    content = pack_zip(t5_folder())
    for level in range(levels - 1):
        content = pack_zip({f"{level}.zip": content})
    return content


@cache
def large_tokenizer(size: int = 50 * 10**6) -> bytes:
    content = as_bytes(TOKENIZER).ljust(size)
    return pack_zip(t5_folder(**{"tokenizer.json": content}))


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _model(name: str, make: Callable[[], bytes], reason: str) -> Case:
    return Case(door="models", name=name, make=make, reason=reason)


def _dataset(name: str, make: Callable[[], bytes], reason: str) -> Case:
    return Case(door="datasets", name=name, make=make, reason=reason)


PADDING = {"strategy": {"Fixed": 4_000_000_000}, "direction": "Right", "pad_to_multiple_of": None,
           "pad_id": 0, "pad_type_id": 0, "pad_token": "a"}  # fmt: skip

CASES: dict[str, Case] = {
    "a bare pickle": _model("model.pkl", evil_pickle, "is a pickle"),
    "a pickle in text": _model("model.bin", lambda: evil_pickle(0), "is a pickle"),
    "a pickle called safetensors": _model("model.safetensors", evil_pickle, "is a pickle"),
    "a pickle in torch.save": _model("model.pt", torch_saved, "is a pickle"),
    "a pickle in a ZIP": _model(
        "model.zip",
        lambda: pack_zip(t5_folder(**{"pytorch_model.bin": torch_saved()})),
        "pytorch_model.bin is a pickle",
    ),
    "a pickle in a TAR": _model(
        "model.tar.gz",
        lambda: pack_tar(t5_folder(**{"vocab.txt": evil_pickle(0)})),
        "vocab.txt is a pickle",
    ),
    "a pickle in joblib": _model("m.joblib", lambda: zlib.compress(evil_pickle()), "is a pickle"),
    "a pickle in an array": _model("model.npy", object_array, "is a pickle"),
    "a pickle as dataset": _dataset("data.csv", evil_pickle, "a Python pickle"),
    "an array of objects as dataset": _dataset("data.npy", object_array, "Python objects"),
    "an array of objects in NPZ": _dataset(
        "data.npz", lambda: pack_zip({"x.npy": object_array(), "y.npy": object_array()}), "objects"
    ),
    "3,000 nested functions": _model("m.onnx", nested_functions, "functions that call functions"),
    "2³⁰ unfolded operators": _model("m.onnx", doubling_functions, "unfolds to 1,073,741,824"),
    "deep graphs": _model("m.onnx", nested_graphs, "nests graphs"),
    "4 GiB from a few bytes": _model("m.onnx", huge_tensor, "1,073,741,824 values"),
    "16 GiB from a shape": _model("m.onnx", constant_of_huge_shape, "4,294,967,296 values"),
    "4 GiB that are not there": _model("m.onnx", promised_tensor, "does not hold them"),
    "external data by ..": _model("m.onnx", lambda: outside_data("../../db.sqlite3"), "not a file"),
    "external data by root": _model("m.onnx", lambda: outside_data("/etc/passwd"), "not a file"),
    "external data in itself": _model("m.onnx", lambda: outside_data("m.onnx"), "not a file"),
    "a padding of 4e9": _model("m.zip", lambda: with_tokenizer(padding=PADDING), "4000000000"),
    "a tokenizer of 50 MB": _model("m.zip", large_tokenizer, "tokenizer.json has 50,000,000"),
    "a program that is code": _model("m.pt2", code_as_size, "would run it as code"),
    "a program with a pickle": _model(
        "m.pt2",
        lambda: exported_bytes(members={"data/weights/model.pt": evil_pickle(2)}),
        "is a pickle",
    ),
    "a program with compiled code": _model(
        "m.pt2",
        lambda: exported_bytes(members={"data/aotinductor/model/m.so": b"\x7fELF"}),
        "compiled code",
    ),
    "a program of 4 TiB": _model("m.pt2", huge_program, "1,208,925,819,614,629,174,706,176 values"),
    "half a program": _model("m.pt2", lambda: half(exported_bytes()), "cut off"),
    "half an ONNX model": _model("m.onnx", lambda: half(onnx_bytes()), "damaged at byte"),
    "half of safetensors": _model(
        "m.safetensors", lambda: half(weights(w=(64, 64))), "but 8156 follow"
    ),
    "half a ZIP": _model("m.zip", lambda: half(pack_zip(t5_folder())), "cut off"),
    "half a TAR": _model("m.tar.gz", lambda: half(pack_tar(t5_folder())), "damaged"),
    "a ZIP in ten ZIPs": _model("m.zip", nested_zip, "an archive inside an archive"),
    "a header of 84 MB": _model("m.safetensors", long_header, "header claims 84000000"),
    "a symbolic link in TAR": _model(
        "m.tar", lambda: linked_tar(tarfile.SYMTYPE, "/etc/passwd"), "is a link"
    ),
    "a hard link in TAR": _model(
        "m.tar", lambda: linked_tar(tarfile.LNKTYPE, "/etc/passwd"), "is a link"
    ),
    "a device in TAR": _model("m.tar", lambda: linked_tar(tarfile.CHRTYPE, ""), "is a link"),
    "a symbolic link in ZIP": _model("m.zip", linked_zip, "is a link"),
    "a ZIP that leads out": _model(
        "m.zip", lambda: pack_zip({"../../evil.safetensors": b"x"}), "leads out of it"
    ),
    "a TAR that leads out": _model(
        "m.tar", lambda: pack_tar({"/tmp/evil.safetensors": b"x"}), "leads out of it"
    ),
    "a ZIP bomb": _model("m.zip", zip_bomb, "zip bomb"),
    "a ZIP that lies": _model("m.zip", lying_zip, "damaged"),
    "a TAR bomb": _model("m.tar.gz", tar_bomb, "zip bomb"),
    "a ZIP bomb as dataset": _dataset(
        "d.zip",
        lambda: pack_zip({"a/1.png": bytes(2 * 10**8)}, compression=zipfile.ZIP_DEFLATED),
        "zip bomb",
    ),
    "300 million rows": _dataset("d.parquet", long_parquet, "300,000,000 rows"),
    "5 million columns": _dataset("d.csv", wide_csv, "is longer than"),
    "an image of 169 megapixels": _dataset("d.zip", large_png, "13,000 × 13,000 pixels"),
}


def is_owned() -> bool:
    return Path(MARKER).exists()
