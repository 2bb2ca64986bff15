"""Weights of torch.save become safetensors, never unpickled, or are refused with a reason."""

import io
import json
import math
import pickle
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from ml.formats.refusal import ModelRefused
from ml.formats.state_dict import MAX_PICKLE_BYTES, Parts, convert_state_dict
from tests.hostile.files import MARKER, Evil, is_owned
from tests.models_registry.brought import pack_zip


def saved(content: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def convert(folder: Path, content: bytes) -> dict[str, torch.Tensor]:
    (folder / "w.pth").write_bytes(content)
    convert_state_dict(folder / "w.pth", folder / "w.safetensors")
    return load_file(folder / "w.safetensors")


def assert_same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        raw, other = (
            each.contiguous().view(-1).view(torch.uint8) for each in (found[name], tensor)
        )
        assert torch.equal(raw, other), name


DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.bool),
    *(torch.uint64, torch.uint32, torch.uint16, torch.uint8),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
)


def test_every_type_of_number_comes_out_as_it_went_in(tmp_path: Path) -> None:
    tensors = {str(kind): (torch.rand(3, 2) * 5).to(kind) for kind in DTYPES}
    assert_same(convert(tmp_path, saved(tensors)), tensors)


def test_a_network_with_buffers_and_parameters(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 2), torch.nn.BatchNorm2d(3))
    assert_same(convert(tmp_path, saved(module.state_dict())), module.state_dict())
    parameters = dict(module.named_parameters())
    assert_same(convert(tmp_path, saved(parameters)), {k: v.data for k, v in parameters.items()})


def test_tensors_that_are_views_or_share_their_storage(tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    views = {
        "transposed": whole.t(),
        "part": whole[1:3, ::2],
        "tied": whole,
        "one": torch.tensor(3.0),
        "none": torch.zeros(0, 3),
    }
    assert_same(
        convert(tmp_path, saved({**views, "more": torch.zeros(64)})),
        views | {"more": torch.zeros(64)},
    )


@pytest.mark.parametrize("name", ["state_dict", "model_state_dict", "model"])
def test_of_a_checkpoint_the_weights_are_taken(tmp_path: Path, name: str) -> None:
    weights = {"w": torch.ones(2)}
    optimizer = {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-3}]}
    content = saved({"epoch": 3, "best": None, name: weights, "optimizer": optimizer})
    assert_same(convert(tmp_path, content), weights)


@pytest.mark.parametrize("beside", [{"best_acc1": torch.tensor(0.7)}, {"state_dict": None}])
def test_a_tensor_beside_them_does_not_hide_the_weights(
    tmp_path: Path, beside: dict[str, Any]
) -> None:
    weights = {"w": torch.ones(2)}
    assert_same(convert(tmp_path, saved({**beside, "model": weights})), weights)


def test_an_embedding_that_is_tied_four_times(tmp_path: Path) -> None:
    whole = torch.rand(500, 64)
    tied = dict.fromkeys(("shared", "encoder", "decoder", "lm_head"), whole)
    assert_same(convert(tmp_path, saved(tied)), tied)


def test_two_storages_in_turn_are_read_once_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    read = Parts.read

    def noted(parts: Parts, name: str, most: float = math.inf) -> bytes:
        reads.append(name)
        return read(parts, name, most)

    monkeypatch.setattr(Parts, "read", noted)
    one, other = torch.arange(50), torch.arange(50.0)
    turns = {f"{at}{of.dtype}": of[at] for at in range(50) for of in (one, other)}
    found = convert(tmp_path, saved(turns))
    assert_same({name: found[name] for name in turns}, turns)
    assert reads == ["byteorder", "data.pkl", "data/0", "data/1"]


def test_what_a_later_protocol_of_pickle_writes(tmp_path: Path) -> None:
    weights = {"w": torch.arange(3)}
    assert_same(convert(tmp_path, saved(weights, pickle_protocol=5)), weights)


def edited(change: Callable[[dict[str, bytes]], Any]) -> bytes:
    """A file of torch.save with its members changed."""
    with zipfile.ZipFile(io.BytesIO(saved({"w": torch.ones(4), "v": torch.ones(2)}))) as archive:
        members = {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}
    change(members)
    return pack_zip({f"archive/{name}": content for name, content in members.items()})


def set_member(name: str, content: bytes) -> bytes:
    return edited(lambda members: members.update({name: content}))


def replace_in_pickle(old: bytes, new: bytes) -> bytes:
    def change(members: dict[str, bytes]) -> None:
        assert old in members["data.pkl"]
        members["data.pkl"] = members["data.pkl"].replace(old, new, 1)

    return edited(change)


DOUBLED = b"\x80\x02)" + b"q\x00h\x00\x86" * 10_000
"""A tuple of the same tuple twice, 10,000 times over: nobody may look into it."""

REFUSED: dict[str, tuple[bytes, str]] = {
    "a tensor in a dictionary among others": (
        saved({"a": torch.ones(1), "sub": {"b": torch.ones(1)}}),
        "'sub', among its tensors, is no tensor",
    ),
    "a number as a name": (saved({0: torch.ones(1), "0": torch.zeros(1)}), "the name '0'"),
    "the header's own name": (saved({"__metadata__": torch.ones(1)}), "__metadata__"),
    "a conjugated tensor": (saved({"w": torch.tensor([1 + 2j]).conj()}), "resolve_conj"),
    "a negated tensor": (saved({"w": torch.tensor([1 + 2j]).conj().imag}), "resolve_neg"),
    "a whole module": (saved(torch.nn.ReLU()), "torch.nn.modules.activation.ReLU"),
    "a list": (saved([torch.ones(2)]), "no tensors with names"),
    "an optimizer": (saved({"state": {0: torch.ones(2)}}), "no tensors with names"),
    "a sparse tensor": (saved({"w": torch.eye(2).to_sparse()}), "_rebuild_sparse_tensor"),
    "a tensor spread out": (saved({"w": torch.zeros(1).expand(9000, 9000)}), "larger"),
    "a storage too short": (set_member("data/0", b"1234"), "does not lie in"),
    "a storage cut in a number": (set_member("data/0", b"12345"), "damaged"),
    "a storage that is missing": (edited(lambda parts: parts.pop("data/0")), "missing"),
    "no pickle": (edited(lambda parts: parts.pop("data.pkl")), "data.pkl is missing"),
    "a large pickle": (set_member("data.pkl", bytes(MAX_PICKLE_BYTES + 1)), "at most"),
    "a stride below 0": (replace_in_pickle(b"K\x01\x85", b"J\xff\xff\xff\xff\x85"), "sizes"),
    "a shape of texts": (replace_in_pickle(b"K\x04\x85", b"X\1\0\0\0a\x85"), "sizes"),
    "a shape of one number": (replace_in_pickle(b"K\x04\x85", b"K\x04"), "is none"),
    "a shape of nothing": (replace_in_pickle(b"K\x04\x85", b"N"), "is none"),
    "a shape of names": (replace_in_pickle(b"K\x04\x85", b"}"), "is none"),
    "big-endian": (set_member("byteorder", b"big"), "little-endian"),
    "two folders": (pack_zip({"a/data.pkl": b"", "b/data/0": b""}), "folders"),
    "compressed": (pack_zip({"a/data.pkl": b"N."}, compression=ZIP_DEFLATED), "compressed"),
    "nothing": (pack_zip({}), "empty"),
}
PICKLES: dict[str, tuple[bytes, str]] = {
    "a function": (pickle.dumps(Evil(MARKER), 2), "it calls for"),
    "a function, protocol 4": (pickle.dumps(Evil(MARKER), 4), "it calls for"),
    "a function, protocol 0": (b"cos\nsystem\n(S'id'\ntR.", "it calls for os.system"),
    "an object": (b"(ios\nsystem\n.", "instruction MARK|instruction INST"),
    "attributes": (b"\x80\x02\x88}b.", "damaged"),
    "an extension": (b"\x80\x02\x82\x01.", "instruction EXT1"),
    "a call of a number": (b"\x80\x02K\x01)R.", "damaged"),
    "no end": (b"\x80\x02}q\x00", "damaged"),
    "two values": (b"\x80\x02}}.", "damaged"),
    "nothing": (b"", "damaged"),
    "numbers that hash alike": (
        b"\x80\x02}\x8a\x08" + (2**61 - 1).to_bytes(8, "little") + b"Ns.",
        "name",
    ),
    "no mark": (b"\x80\x02t.", "damaged"),
    "an empty memo": (b"\x80\x02h\x05.", "damaged"),
    "doubled": (DOUBLED + b".", "no tensors with names"),
    "doubled, as a name": (b"\x80\x02}" + DOUBLED[2:] + b"Ns.", "a name is no text"),
}
REFUSED |= {f"pickle: {k}": (set_member("data.pkl", v), why) for k, (v, why) in PICKLES.items()}


@pytest.mark.parametrize("name", REFUSED)
def test_anything_else_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    content, reason = REFUSED[name]
    with pytest.raises(ModelRefused, match=reason) as caught:
        convert(tmp_path, content)
    assert caught.value.code == "pickle"
    assert not is_owned()


SOUND = saved({"a": torch.ones(3, 2), "b": torch.ones(2, dtype=torch.bfloat16)})


def test_parts_that_lie_in_one_another(tmp_path: Path) -> None:
    content = bytearray(SOUND)
    entry = content.index(b"PK\1\2")
    for at in (entry + 20, entry + 24):  # its size, packed and not
        content[at : at + 4] = len(content).to_bytes(4, "little")
    with pytest.raises(ModelRefused, match="lie in one another"):
        convert(tmp_path, bytes(content))


def test_a_place_that_no_file_has(tmp_path: Path) -> None:
    """ZIP64 may say that a member begins at 2 ** 62, where no file can be read."""
    content = bytearray(SOUND)
    entry = content.index(b"PK\1\2")
    extra = b"\1\0\x08\0" + (2**62).to_bytes(8, "little")
    name_bytes = int.from_bytes(content[entry + 28 : entry + 30], "little")
    content[entry + 30 : entry + 32] = len(extra).to_bytes(2, "little")
    content[entry + 42 : entry + 46] = b"\xff" * 4
    end = content.rindex(b"PK\5\6")
    size = int.from_bytes(content[end + 12 : end + 16], "little") + len(extra)
    content[end + 12 : end + 16] = size.to_bytes(4, "little")
    content[entry + 46 + name_bytes : entry + 46 + name_bytes] = extra
    with pytest.raises(ModelRefused, match="the archive is damaged"):
        convert(tmp_path, bytes(content))


@settings(max_examples=300, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), is_cut=st.booleans())
def test_damage_is_taken_or_refused_but_never_anything_else(
    place: float, byte: int, is_cut: bool
) -> None:
    content = bytearray(SOUND)
    at = int(place * len(content))
    content[at] = byte
    with tempfile.TemporaryDirectory() as folder, suppress(ModelRefused):
        convert(Path(folder), bytes(content[: at + 1] if is_cut else content))


@settings(max_examples=300, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_a_damaged_pickle_in_a_sound_archive(place: float, byte: int) -> None:
    def change(members: dict[str, bytes]) -> None:
        raw = bytearray(members["data.pkl"])
        raw[int(place * len(raw))] = byte
        members["data.pkl"] = bytes(raw)

    with tempfile.TemporaryDirectory() as folder, suppress(ModelRefused):
        found = convert(Path(folder), edited(change))
        assert json.dumps(sorted(found))
