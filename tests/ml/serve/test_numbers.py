"""Large JSON inputs are read as arrays, just as small ones are, or left to who tells why not."""

from typing import Any

import numpy as np
import orjson
import pytest

from ml.serve.errors import InvalidInput
from ml.serve.numbers import FROM_BYTES, read_numbers
from ml.serve.signature import Array, Signature, TensorSpec
from ml.serve.tensors import read_json

ROWS = np.round(np.random.default_rng(0).standard_normal((2, 3, 16, 16)), 4)
BESIDE = {"model_name": "resnet"}


def signature(datatype: str = "FP32") -> Signature:
    image = TensorSpec(name="x", datatype=datatype, shape=(None, 3, None, None))
    return Signature(inputs=(image,), outputs=())


def body(values: Any, **more: Any) -> bytes:
    return orjson.dumps({"model_name": "resnet", "inputs": {"x": values}, **more})


def read(sent: bytes, datatype: str = "FP32") -> dict[str, Array] | None:
    assert len(sent) >= FROM_BYTES
    return read_numbers(sent, signature(datatype), "inputs", BESIDE)


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_numbers_are_what_a_slow_reader_makes_of_them(datatype: str) -> None:
    sent = body(ROWS.tolist())
    found = read(sent, datatype)
    assert found is not None
    slowly = np.asarray(orjson.loads(sent)["inputs"]["x"]).astype(
        signature(datatype).inputs[0].dtype
    )
    assert found["x"].dtype == slowly.dtype
    assert np.array_equal(found["x"], slowly)


def test_bare_inputs_are_read_too() -> None:
    sent = orjson.dumps({"x": ROWS.tolist()})
    found = read_numbers(sent, signature(), None, None)
    assert found is not None
    assert found["x"].shape == ROWS.shape


def changed(place: tuple[int, ...], value: Any) -> list[Any]:
    rows = ROWS.tolist()
    inner = rows
    for number in place[:-1]:
        inner = inner[number]
    inner[place[-1]] = value
    return list(rows)


@pytest.mark.parametrize(
    "values",
    [
        changed((1, 2, 3), [1.0]),  # a shorter list
        changed((1, 2, 3, 4), [1.0]),  # a list instead of a number
        changed((1, 2, 3, 4), "1"),
        changed((1, 2, 3, 4), True),
        changed((1, 2, 3, 4), None),
        changed((1, 2, 3, 4), {"a": 1}),
        changed((1, 2, 3, 4), 1e39),  # too large for FP32
        {"y": ROWS.tolist()},
    ],
)
def test_what_is_not_plain_is_left_to_the_other_reader(values: Any) -> None:
    assert read(body(values)) is None


def test_integers_are_not_read_as_floats() -> None:
    assert read(body(ROWS.tolist()), "INT64") is None


@pytest.mark.parametrize(
    "sent",
    [
        body(ROWS.tolist(), timeout_seconds=5),
        body(ROWS.tolist()).replace(b'"resnet"', b'"other"'),
        body(ROWS.tolist())[:-1] + b', "model_name": "other"}',
    ],
)
def test_a_body_that_holds_something_else_is_refused(sent: bytes) -> None:
    """The server told by its beginning alone what it holds."""
    assert read(sent) is None
    with pytest.raises(InvalidInput):
        read_json(sent, signature(), "inputs", BESIDE)


@pytest.mark.parametrize(
    "sent", [b"[" * 5000, b"{" * 5000, b'{"x": NaN}' + b" " * 5000, b"\xff" * 5000]
)
def test_nonsense_is_left_to_the_other_reader(sent: bytes) -> None:
    assert read_numbers(sent, signature(), None, None) is None
