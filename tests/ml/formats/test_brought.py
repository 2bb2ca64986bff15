"""What becomes of a model that somebody brings: kept, cleaned, or refused with a reason."""

import io
import json
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from safetensors.torch import load

from ml.data.content import DataError
from ml.formats.brought import Trust, take_model
from ml.formats.refusal import ModelRefused
from ml.formats.sniff import sniff
from tests.ml.serve.models import write_network
from tests.models_registry.brought import (
    T5,
    TOKENIZER,
    Files,
    as_bytes,
    external_tensor,
    onnx_bytes,
    pack_tar,
    pack_zip,
    t5_folder,
    weights,
    write,
)

LOCKED = Trust(is_locked=True)


def take(folder: Path, files: Files, trust: Trust = LOCKED) -> dict[str, Any]:
    write(folder, {str(number): content for number, content in enumerate(files.values())})
    listed = [{"stored": str(number), "name": name} for number, name in enumerate(files)]
    return take_model(folder, listed, trust)


def refusal(folder: Path, files: Files, trust: Trust = LOCKED) -> ModelRefused:
    with pytest.raises(ModelRefused) as caught:
        take(folder, files, trust)
    return caught.value


def kept(folder: Path) -> list[str]:
    root = folder / "model"
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "pack",
    [
        lambda files: {"t5.zip": pack_zip(files)},
        lambda files: {"t5.zip": pack_zip(files, compression=zipfile.ZIP_DEFLATED)},
        lambda files: {"t5.zip": pack_zip({f"t5/{name}": each for name, each in files.items()})},
        lambda files: {"t5.tar.gz": pack_tar(files)},
        lambda files: {"t5.tar": pack_tar({f"./{n}": each for n, each in files.items()}, mode="w")},
        lambda files: files,
    ],
    ids=["zip", "deflated", "folder in zip", "tar.gz", "tar", "files"],
)
def test_a_hugging_face_folder_comes_in_any_packing(tmp_path: Path, pack: Any) -> None:
    found = take(tmp_path, pack(t5_folder()))

    assert (found["framework"], found["task"]) == ("transformers", "text2text")
    assert found["facts"]["architecture"] == "T5ForConditionalGeneration"
    assert found["facts"]["parameter_count"] == 32
    assert found["signature"]["inputs"][0]["name"] == "text"
    assert found["card"] == "# A small one"
    assert kept(tmp_path) == sorted(t5_folder())


def test_what_names_code_is_removed_from_the_configuration(tmp_path: Path) -> None:
    config = T5 | {
        "auto_map": {"AutoModel": "modeling_evil.Evil"},
        "_name_or_path": "../../other",
        "text_config": {"trust_remote_code": True, "d_ff": 8},
    }
    files = t5_folder(**{"config.json": as_bytes(config), "modeling_evil.py": b"import os"})

    found = take(tmp_path, {"t5.zip": pack_zip(files)})

    left = json.loads((tmp_path / "model" / "config.json").read_text())
    assert left == T5 | {"text_config": {"d_ff": 8}}
    assert found["facts"]["left_out"] == ["modeling_evil.py"]
    assert len(found["facts"]["removed"]) == 3


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"config.json": b"[]"}, "must hold a JSON object"),
        ({"config.json": b"{"}, "not JSON"),
        ({"config.json": b'{"a":' + b"[" * 100_000}, "not JSON"),
        ({"config.json": as_bytes({"d_model": 4})}, "name its architectures"),
        ({"config.json": as_bytes(T5 | {"vocab_size": 10**9})}, "belong to another model"),
        ({"config.json": as_bytes(T5 | {"num_layers": 10**6})}, "num_layers"),
        ({"config.json": as_bytes(T5 | {"d_ff": 2**40})}, "d_ff"),
        ({"config.json": as_bytes(T5 | {"quantization_config": {}})}, "quantised"),
        ({"model.safetensors": b"\x10" + b"\0" * 30}, "no sound safetensors"),
        (
            {"model.safetensors.index.json": as_bytes({"weight_map": {"w": "../../other"}})},
            "not a file of this folder",
        ),
        (
            {"model.safetensors.index.json": as_bytes({"weight_map": {"w": "model.safetensors"}})},
            "does not hold 'w'",
        ),
        (
            {"tokenizer.json": as_bytes(TOKENIZER | {"padding": {"strategy": {"Fixed": 2**32}}})},
            "padding.strategy.Fixed is 4294967296",
        ),
        (
            {"tokenizer.json": as_bytes(TOKENIZER | {"truncation": {"max_length": -1}})},
            "truncation.max_length",
        ),
        ({"tokenizer.json": as_bytes({})}, "has no model"),
        ({"tokenizer.json": as_bytes({"model": {"type": "New"}})}, "cannot be used"),
        ({"adapter_config.json": as_bytes({"base_model_name_or_path": "../x"})}, "base model"),
    ],
)
def test_a_folder_that_would_mislead_a_loader_is_refused(
    tmp_path: Path, changed: Files, reason: str
) -> None:
    assert reason in refusal(tmp_path, {"t5.zip": pack_zip(t5_folder(**changed))}).message


def test_an_adapter_names_its_base(tmp_path: Path) -> None:
    adapter = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "org/gpt"}
    files = {
        "adapter_config.json": as_bytes(adapter),
        "adapter_model.safetensors": weights(lora=(2, 3)),
    }

    found = take(tmp_path, files)

    assert (found["task"], found["facts"]["architecture"]) == ("causal", "adapter of org/gpt")


def test_without_a_lock_foreign_folders_are_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    error = refusal(tmp_path / "a", t5_folder(), Trust())
    assert error.code == "no_sandbox"
    assert "ALLOW_UNSANDBOXED_MODELS" in error.message

    assert take(tmp_path / "b", t5_folder(), Trust(unlocked=True))["task"] == "text2text"


def test_an_onnx_model_says_what_goes_in_and_out(tmp_path: Path) -> None:
    found = take(tmp_path, {"relu.onnx": onnx_bytes()})

    assert found["framework"] == "onnx"
    assert found["signature"]["inputs"] == [{"name": "x", "dtype": "float", "shape": ["rows", 3]}]
    assert found["signature"]["outputs"][0]["name"] == "y"


def test_an_onnx_model_keeps_the_data_files_that_it_reads(tmp_path: Path) -> None:
    model = onnx_bytes(
        helper.make_node("Add", ["x", "w"], ["y"]), weights=(external_tensor("w.bin"),)
    )

    found = take(tmp_path, {"m.onnx": model, "w.bin": b"\0\0\x80\x3f" * 3, "x.bin": b"\xff"})

    assert kept(tmp_path) == ["m.onnx", "w.bin"]
    assert found["facts"]["external"] == ["w.bin"]
    assert found["facts"]["left_out"] == ["x.bin"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"m.onnx": b""}, "has 0 bytes"),
        ({"m.onnx": b"\xff" * 100}, "no ONNX model"),
        ({"m.onnx": onnx_bytes()[:-3]}, "no ONNX model"),
        ({"m.onnx": onnx_bytes(helper.make_node("Nonsense", ["x"], ["y"]))}, "breaks a rule"),
        (
            {"m.onnx": onnx_bytes(helper.make_node("Run", ["x"], ["y"], domain="evil"))},
            "'Run' of 'evil'",
        ),
        ({"a.onnx": onnx_bytes(), "b.onnx": onnx_bytes()}, "one ONNX model at a time"),
        (
            {
                "m.onnx": onnx_bytes(
                    helper.make_node("Add", ["x", "w"], ["y"]),
                    weights=(external_tensor("w.bin", (3000,)),),
                ),
                "w.bin": b"\0" * 12,
            },
            "does not hold them",
        ),
    ],
)
def test_an_onnx_model_that_is_not_sound_is_refused(
    tmp_path: Path, files: Files, reason: str
) -> None:
    assert reason in refusal(tmp_path, files).message


def test_bare_weights_are_kept_as_what_they_are(tmp_path: Path) -> None:
    found = take(tmp_path, {"net.safetensors": weights(w=(2, 3))})

    assert (found["framework"], found["task"]) == ("safetensors", "weights")
    assert found["facts"] == {"parameter_count": 6}


def saved(name: str = "shared.weight") -> bytes:
    stream = io.BytesIO()
    torch.save({name: torch.zeros(8, 4)}, stream)
    return stream.getvalue()


def test_weights_of_torch_save_become_safetensors(tmp_path: Path) -> None:
    found = take(tmp_path, {"net.pth": saved()})

    assert (found["framework"], kept(tmp_path)) == ("safetensors", ["net.safetensors"])
    assert found["facts"] == {"parameter_count": 32, "rewritten": {"net.pth": "net.safetensors"}}


def test_an_older_hugging_face_folder_brings_its_weights_along(tmp_path: Path) -> None:
    files = t5_folder(**{"pytorch_model.bin": saved()})
    del files["model.safetensors"]
    found = take(tmp_path, files)

    assert found["facts"]["rewritten"] == {"pytorch_model.bin": "model.safetensors"}
    assert (found["framework"], found["facts"]["parameter_count"]) == ("transformers", 32)
    assert kept(tmp_path) == ["README.md", "config.json", "model.safetensors", "tokenizer.json"]


def test_in_shards_with_their_index(tmp_path: Path) -> None:
    shards = {f"pytorch_model-0000{n}-of-00002.bin": saved(f"part{n}") for n in (1, 2)}
    index = {"weight_map": {f"part{n}": shard for n, shard in enumerate(shards, start=1)}}
    files = t5_folder(**shards, **{"pytorch_model.bin.index.json": as_bytes(index)})
    del files["model.safetensors"]
    take(tmp_path, files)

    written = json.loads((tmp_path / "model" / "model.safetensors.index.json").read_bytes())
    assert written["weight_map"]["part2"] == "model-00002-of-00002.safetensors"
    assert "model-00001-of-00002.safetensors" in kept(tmp_path)
    assert not [name for name in kept(tmp_path) if ".bin" in name]


def test_two_files_that_would_become_one_are_refused(tmp_path: Path) -> None:
    found = refusal(tmp_path, {"net.pth": saved("a"), "net.bin": saved("b")})
    assert "both become net.safetensors" in found.message


def test_where_both_are_there_safetensors_are_kept(tmp_path: Path) -> None:
    found = take(tmp_path, t5_folder(**{"pytorch_model.bin": saved()}))

    assert found["facts"]["left_out"] == ["pytorch_model.bin"]
    assert "rewritten" not in found["facts"]


def test_safetensors_of_another_folder_are_other_weights(tmp_path: Path) -> None:
    files = t5_folder(
        **{"pytorch_model.bin": saved(), "2_Dense/model.safetensors": weights(w=(2,))}
    )
    del files["model.safetensors"]
    found = take(tmp_path, {"t5.zip": pack_zip(files)})

    assert found["facts"]["rewritten"] == {"pytorch_model.bin": "model.safetensors"}


def test_the_state_of_an_optimizer_beside_the_weights_is_left_out(tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save({"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-3}]}, stream)
    found = take(
        tmp_path, {"net.safetensors": weights(w=(2, 3)), "optimizer.pt": stream.getvalue()}
    )

    assert found["facts"] == {"parameter_count": 6, "left_out": ["optimizer.pt"]}
    assert kept(tmp_path) == ["net.safetensors"]


def test_weights_beside_an_onnx_model_are_left_out_under_their_own_name(tmp_path: Path) -> None:
    found = take(tmp_path, {"m.onnx": onnx_bytes(), "net.pth": saved()})

    assert found["facts"]["left_out"] == ["net.pth"]
    assert "rewritten" not in found["facts"]


def test_a_name_that_would_become_too_long_is_refused(tmp_path: Path) -> None:
    files = {"a.zip": pack_zip({f"{'n' * 250}.pth": saved()})}
    assert "too long" in refusal(tmp_path, files).message


def test_a_network_of_this_server_with_weights_of_torch_save(tmp_path: Path) -> None:
    folder = write_network(tmp_path / "network")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    state = load(files.pop("model.safetensors"))
    stream = io.BytesIO()
    torch.save(state, stream)
    found = take(tmp_path, files | {"weights.pth": stream.getvalue()})

    assert found["framework"] == "pytorch"
    assert load((tmp_path / "model" / "model.safetensors").read_bytes()).keys() == state.keys()


def test_weights_are_never_taken_for_something_else(tmp_path: Path) -> None:
    # A safetensors file begins with the length of its header, whose bytes may look like a pickle.
    header = json.dumps({"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    path = tmp_path / "w.safetensors"
    for size in range(64, 3000, 8):
        path.write_bytes(size.to_bytes(8, "little") + header.ljust(size) + b"\0")
        assert sniff(path) == "safetensors", size


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"../x.safetensors": weights()}, "unsafe_name"),
        ({".hidden": weights()}, "unsafe_name"),
        ({"notes.txt": b"hello"}, "unknown_format"),
        ({"m.zip": pack_zip({"a/b.zip": pack_zip({"a": b"x"}), "c": b"x"})}, "zip"),
        ({"m.npy": b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'"}, "array"),
        ({"m.h5": b"\x89HDF\r\n\x1a\n"}, "hdf5"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, files: Files, code: str) -> None:
    assert refusal(tmp_path, files).code == code


def test_an_empty_archive_is_refused(tmp_path: Path) -> None:
    assert "no files" in refusal(tmp_path, {"m.zip": pack_zip({})}).message


def test_a_member_without_a_name_is_refused(tmp_path: Path) -> None:
    content = pack_zip({"zz": b"x", "b": b"y"}).replace(b"zz", b"\0z")  # cut at its NUL
    with pytest.raises(DataError, match="without a name"):
        take(tmp_path, {"m.zip": content})


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    content = pack_tar(t5_folder())
    with pytest.raises(DataError, match="damaged"):
        take(tmp_path, {"m.tar.gz": content[: len(content) // 2]})


SOUND = {
    "t5.zip": pack_zip(t5_folder()),
    "t5.tar": pack_tar(t5_folder(), mode="w"),
    "relu.onnx": onnx_bytes(),
    "w.safetensors": weights(a=(2, 3)),
}


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(SOUND)),
    place=st.floats(0, 1, exclude_max=True),
    byte=st.integers(0, 255),
    is_cut=st.booleans(),
)
def test_damage_is_taken_or_refused_but_never_anything_else(
    name: str, place: float, byte: int, is_cut: bool
) -> None:
    content = bytearray(SOUND[name])
    at = int(place * len(content))
    content[at] = byte
    with tempfile.TemporaryDirectory() as folder, suppress(ModelRefused, DataError):
        take(Path(folder), {name: bytes(content[: at + 1] if is_cut else content)})
