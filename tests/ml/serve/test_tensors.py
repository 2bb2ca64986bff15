"""Frames however they are cut, and tensors that keep every value or are refused."""

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.serve.errors import InvalidInput
from ml.serve.frames import PREFIX, BrokenFrame, FrameReader, pack
from ml.serve.signature import DATATYPES, Signature, TensorSpec
from ml.serve.tensors import from_json, read_inputs, to_json, to_tensors


@given(
    st.lists(st.tuples(st.dictionaries(st.text(max_size=5), st.integers(0, 9)), st.binary())),
    st.integers(1, 50),
)
def test_frames_are_found_however_they_are_cut(
    sent: list[tuple[dict[str, int], bytes]], step: int
) -> None:
    stream = b"".join(b"".join(pack(header, body)) for header, body in sent)
    reader = FrameReader()
    found = []
    for start in range(0, len(stream), step):
        found += list(reader.feed(stream[start : start + step]))
    assert found == sent


@pytest.mark.parametrize(
    "data", [PREFIX.pack(2**30, 0), PREFIX.pack(0, 2**31), PREFIX.pack(2, 0) + b"[]"]
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(BrokenFrame):
        list(FrameReader().feed(data))


def spec(datatype: str, *shape: int | None, is_column: bool = False) -> TensorSpec:
    return TensorSpec(name="x", datatype=datatype, shape=shape or (None,), is_column=is_column)


@pytest.mark.parametrize("datatype", DATATYPES)
def test_tensors_come_back_as_they_were(datatype: str) -> None:
    sent = np.array([["a", "bé"], ["", "c"]], object) if datatype == "BYTES" else np.eye(2)
    array = sent.astype(DATATYPES[datatype])
    described, parts = to_tensors({"x": array})
    header = {"encoding": "tensors", "tensors": described}
    signature = Signature(inputs=(spec(datatype, None, 2),), outputs=())
    back = read_inputs(header, b"".join(parts), signature)["x"]
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype
    assert orjson.loads(to_json({"x": array})) == {"x": array.tolist()}


def test_an_empty_tensor_comes_back_empty() -> None:
    described, parts = to_tensors({"x": np.zeros((0, 3), np.float32)})
    assert described[0]["shape"] == [0, 3]
    assert b"".join(parts) == b""


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("INT64", [1.5]),
        ("UINT8", [256]),
        ("UINT8", [-1]),
        ("INT8", [None]),
        ("FP32", ["1.5"]),
        ("FP32", [1e300]),
        ("FP16", [1e6]),
        ("FP32", [None]),
        ("BOOL", [2]),
        ("BYTES", [1]),
        ("FP32", [{"a": 1}]),
    ],
)
def test_what_a_datatype_cannot_hold_is_refused(datatype: str, value: Any) -> None:
    with pytest.raises(InvalidInput):
        from_json(spec(datatype), value)


def test_a_column_may_have_gaps_and_numbers_for_words() -> None:
    numbers = from_json(spec("FP64", is_column=True), [1, None, 2.5])
    np.testing.assert_array_equal(numbers, [1, np.nan, 2.5])
    assert from_json(spec("BYTES", is_column=True), ["a", 7, None]).tolist() == ["a", 7, None]
    with pytest.raises(InvalidInput):
        from_json(spec("FP64", is_column=True), [1, "a"])


@pytest.mark.parametrize(
    ("tensor", "body"),
    [
        ({"name": "z"}, b""),
        ({"name": "x", "datatype": "FP64", "shape": [1], "size_bytes": 8}, b"0" * 8),
        ({"name": "x", "datatype": "FP32", "shape": [1], "size_bytes": 8}, b"0" * 8),
        ({"name": "x", "datatype": "FP32", "shape": [2], "size_bytes": 8}, b"0" * 4),
        ({"name": "x", "datatype": "FP32", "shape": [1], "size_bytes": 4}, b"0" * 8),
        ({"name": "x", "datatype": "FP32", "shape": [-1], "size_bytes": 4}, b"0" * 4),
        ({"name": "x", "datatype": "FP32", "shape": "1", "size_bytes": 4}, b"0" * 4),
    ],
)
def test_a_body_that_is_not_what_its_header_says_is_refused(
    tensor: dict[str, Any], body: bytes
) -> None:
    signature = Signature(inputs=(spec("FP32"),), outputs=())
    with pytest.raises(InvalidInput):
        read_inputs({"encoding": "tensors", "tensors": [tensor]}, body, signature)


@pytest.mark.parametrize("body", [b"\x01\0\0\0", b"\xff\xff\xff\xffa", b"\x01\0\0\0\xff", b"ab"])
def test_strings_cut_short_or_not_utf8_are_refused(body: bytes) -> None:
    tensor = {"name": "x", "datatype": "BYTES", "shape": [1], "size_bytes": len(body)}
    signature = Signature(inputs=(spec("BYTES"),), outputs=())
    with pytest.raises(InvalidInput):
        read_inputs({"encoding": "tensors", "tensors": [tensor]}, body, signature)


def test_rows_become_columns() -> None:
    columns = tuple(
        TensorSpec(name=name, datatype="FP64", shape=(None,), is_column=True) for name in "ab"
    )
    signature = Signature(inputs=columns, outputs=())
    found = read_inputs({}, b'[{"a": 1, "b": 2}, {"a": 3, "b": null}]', signature)
    assert found["a"].tolist() == [1, 3]
    with pytest.raises(InvalidInput, match="Row 2 lacks the input 'b'"):
        read_inputs({}, b'[{"a": 1, "b": 2}, {"a": 3}]', signature)


def test_inputs_may_be_a_member_of_a_larger_object() -> None:
    signature = Signature(inputs=(spec("FP32"),), outputs=())
    body = orjson.dumps({"model_name": "m", "inputs": {"x": [1, 2]}})
    assert read_inputs({"member": "inputs"}, body, signature)["x"].tolist() == [1, 2]
