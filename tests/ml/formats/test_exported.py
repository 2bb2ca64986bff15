"""What becomes of a .pt2 archive: written anew from what was judged, or refused with a reason."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ml.formats.exported import check_exported, take_exported
from ml.formats.refusal import ModelRefused
from tests.models_registry.exported import (
    GRAPH,
    LEAF,
    SAMPLES,
    WEIGHTS_CONFIG,
    Json,
    exported_bytes,
    tree,
)


def take(folder: Path, content: bytes) -> Any:
    path = folder / "brought.pt2"
    path.write_bytes(content)
    return take_exported(path, folder / "model.pt2")


def graph_of(program: Json) -> Json:
    found: Json = program["graph_module"]["graph"]
    return found


def call_of(program: Json) -> Json:
    found: Json = program["graph_module"]["module_call_graph"][0]["signature"]
    return found


def test_its_signature_is_read_from_the_graph(tmp_path: Path) -> None:
    program, parameters = take(tmp_path, exported_bytes())

    assert program.inputs == ({"name": "x", "dtype": "float32", "shape": ["s0", 4]},)
    assert program.outputs == ({"name": "y", "dtype": "float32", "shape": ["s0", 3]},)
    assert (program.most_rows, program.torch_version, parameters) == (None, "2.11.0", 12)
    assert check_exported(tmp_path / "model.pt2") == program


def test_what_torch_would_open_or_tell_is_left_out(tmp_path: Path) -> None:
    take(tmp_path, exported_bytes(members={SAMPLES: b"\x80\x04N.", "extra/notes": b"private"}))

    with zipfile.ZipFile(tmp_path / "model.pt2") as archive:
        assert archive.read(f"model/{SAMPLES}") == b""
        assert "model/extra/notes" not in archive.namelist()
        graph = json.loads(archive.read(f"model/{GRAPH}"))
    assert all(node["metadata"] == {} for node in graph_of(graph)["nodes"])
    assert "/home/ada" not in json.dumps(graph)


def test_what_was_not_taken_in_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "raw.pt2").write_bytes(exported_bytes())
    with pytest.raises(ModelRefused, match="not taken in by this server"):
        check_exported(tmp_path / "raw.pt2")


def test_a_limit_of_rows_is_known(tmp_path: Path) -> None:
    def limit(program: Json) -> None:
        program["range_constraints"]["s0"]["max_val"] = 8

    assert take(tmp_path, exported_bytes(limit))[0].most_rows == 8


def test_several_outputs_without_names_are_numbered(tmp_path: Path) -> None:
    def twice(program: Json) -> None:
        call_of(program)["out_spec"] = json.dumps([1, tree("builtins.tuple", LEAF, LEAF)])
        program["graph_module"]["signature"]["output_specs"] *= 2

    program, _ = take(tmp_path, exported_bytes(twice))
    assert [output["name"] for output in program.outputs] == ["output_0", "output_1"]


def at(*path: Any, to: Any) -> Callable[[Json], None]:
    """A change of one place of the program."""

    def change(program: Json) -> None:
        place: Any = program
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return change


NODE = ("graph_module", "graph", "nodes", 0)
X = ("graph_module", "graph", "tensor_values", "x")
CALL = ("graph_module", "module_call_graph", 0, "signature")
DEFAULTDICT = {
    "type": "collections.defaultdict",
    "context": {"default_factory_module": "os", "default_factory_name": "system",
                "dict_context": []},
    "children_spec": [],
}  # fmt: skip

REFUSED: dict[str, tuple[Callable[[Json], None], str]] = {
    "a size that is code": (
        at(*X, "sizes", 0, "as_expr", "expr_str", to="__import__('os').system('id')"),
        "would run it as code",
    ),
    "a guard that is code": (at("guards_code", to=["exec('1')"]), "would run it as code"),
    "a name that is code": (
        at("graph_module", "graph", "inputs", 1, "as_tensor", "name", to="x): evil()\n#"),
        "would run it as code",
    ),
    "a keyword that is code": (
        at(*NODE, "inputs", 0, "name", to="a=evil(), b"), "would run it as code",
    ),
    "a class to import": (at(*CALL, "out_spec", to=json.dumps([1, DEFAULTDICT])), "defaultdict"),
    "an input that is code": (
        at(*CALL, "in_spec", to=json.dumps([1, tree("builtins.dict", LEAF, context=["a b"])])),
        "takes or returns",
    ),
    "a function of Python": (at(*NODE, "target", to="torch.hub.load"), "calls 'torch.hub.load'"),
    "a file by an operator": (
        at(*NODE, "target", to="torch.ops.aten.from_file.default"), "aten.from_file",
    ),
    "an operator of others": (at(*NODE, "target", to="torch.ops.evil.run.default"), "evil.run"),
    "an object": (
        at(*NODE, "inputs", 0, "arg", to={"as_custom_obj": {"name": "o", "class_fqn": "C"}}),
        "as_custom_obj",
    ),
    "a huge tensor": (at(*X, "sizes", to=[{"as_int": 2**40}]), "1,099,511,627,776 values"),
    "a negative size": (at(*X, "sizes", to=[{"as_int": -4}]), "has the shape"),
    "a size of text": (at(*X, "sizes", to=[{"as_int": "4"}]), "a size is '4'"),
    "an unknown type": (at(*X, "dtype", to=99), "unknown type"),
    "an input nobody can send": (at(*X, "dtype", to=13), "is bfloat16"),
    "a GPU": (at(*X, "device", to={"type": "cuda", "index": 0}), "exported on 'cuda'"),
    "a training graph": (
        at("graph_module", "signature", "output_specs", to=[{"buffer_mutation": {}}]),
        "call model.eval()",
    ),
    "an old schema": (at("schema_version", "major", to=7), "by torch 2.11.0 (schema 7, not 8)"),
    "a depth": (
        at(*NODE, "inputs", to=json.loads("[" * 100 + "]" * 100)), "nested more than",
    ),
    "no graph": (at("graph_module", to=[]), "not hold a program"),
    "a graph without its inputs": (at("graph_module", "graph", "tensor_values", to={}), "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_program_that_is_more_than_arithmetic_is_refused(tmp_path: Path, name: str) -> None:
    change, reason = REFUSED[name]
    with pytest.raises(ModelRefused) as caught:
        take(tmp_path, exported_bytes(change))
    assert reason in caught.value.message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (at("w", "use_pickle", to=True), "is a pickle"),
        (at("w", "path_name", to="../../../etc/passwd"), "no plain name"),
        (at("w", "path_name", to="weight_9"), "does not lie in"),
        (at("w", "tensor_meta", "sizes", to=[{"as_int": 4}, {"as_int": 4}]), "does not lie in"),
        (at("w", "tensor_meta", "storage_offset", "as_int", to=1), "does not lie in"),
        (at("w", "tensor_meta", "strides", 0, "as_int", to=-1), "damaged"),
        (at("w", "tensor_meta", to=None), "damaged"),
    ],
)
def test_weights_that_are_not_there_are_refused(
    tmp_path: Path, change: Callable[[Json], None], reason: str
) -> None:
    with pytest.raises(ModelRefused, match=reason):
        take(tmp_path, exported_bytes(change_payloads=change))


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"data/weights/model.pt": b"\x80\x04N."}, "is a pickle"),
        ({"data/constants/custom_obj_0": b"x"}, "is a pickle"),
        ({"data/constants/opaque_obj_0": b"x"}, "is a pickle"),
        ({"data/aotinductor/model/code.so": b"x"}, "compiled code"),
        ({"models/second.json": b"{}"}, "not part of one exported program"),
        ({"serialized_exported_program.json": b"{}"}, "by torch 2.7 or older"),
        ({"byteorder": b"big"}, "byteorder is b'big'"),
        ({"archive_version": b"1"}, "archive_version"),
        ({GRAPH: b"{"}, "not JSON"),
        ({GRAPH: b"[" * 100_000}, "not JSON"),
        ({GRAPH: b"[]"}, "must hold a JSON object"),
        ({GRAPH: None}, "has no models/model.json"),
        ({WEIGHTS_CONFIG: None}, "has no data/weights"),
        ({WEIGHTS_CONFIG: b"{}"}, "damaged"),
    ],
)
def test_an_archive_of_something_else_is_refused(
    tmp_path: Path, members: dict[str, bytes | None], reason: str
) -> None:
    with pytest.raises(ModelRefused, match=reason):
        take(tmp_path, exported_bytes(members=members))


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="is compressed"):
        take(tmp_path, exported_bytes(compression=zipfile.ZIP_DEFLATED))


def test_a_file_that_was_cut_off_or_damaged_is_refused(tmp_path: Path) -> None:
    content = exported_bytes()
    for size in range(0, len(content), 97):
        with pytest.raises(ModelRefused, match="cut off"):
            take(tmp_path, content[:size])
    place = content.index(b"s0") + 1
    with pytest.raises(ModelRefused, match="CRC"):
        take(tmp_path, content[:place] + b"1" + content[place + 1 :])
