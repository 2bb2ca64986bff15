"""Headers of real safetensors files, and of files that lie."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from ml.formats.header import MAX_HEADER_BYTES, HeaderError, read_header


def write_raw(path: Path, header: bytes, data: bytes = b"", length: int | None = None) -> Path:
    size = len(header) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + header + data)
    return path


def write(path: Path, header: Any, data: bytes = b"") -> Path:
    return write_raw(path, json.dumps(header).encode(), data)


def entry(start: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_it_reads_what_the_library_wrote(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensors: dict[str, Any] = {"w": np.zeros((3, 4), np.float32), "b": np.zeros(4, np.float16)}
    save_file(tensors, path, metadata={"made_by": "test"})
    header = read_header(path)
    assert {t.name: (t.dtype, t.shape) for t in header.tensors} == {
        "w": ("F32", (3, 4)),
        "b": ("F16", (4,)),
    }
    assert header.parameter_count == 16
    assert header.metadata == {"made_by": "test"}
    assert header.to_dict()["dtypes"] == {"F32": 12, "F16": 4}


def test_it_reads_scalars_empty_tensors_and_empty_files(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"s": np.array(1.0, np.float64), "e": np.zeros((0, 5), np.int64)}, path)
    assert read_header(path).parameter_count == 1
    assert read_header(write(tmp_path / "none", {})).tensors == ()


def test_it_accepts_the_blanks_that_align_the_weights(tmp_path: Path) -> None:
    raw = json.dumps({"w": entry(0, 4, [1])}).encode() + b" " * 13
    assert read_header(write_raw(tmp_path / "f", raw, b"1234")).parameter_count == 1


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        ([], b"", "not a JSON object"),
        ({"w": 3}, b"", "must have dtype"),
        ({"w": entry(0, 4, [1]) | {"more": 1}}, b"1234", "nothing else"),
        ({"w": entry(0, 4, [1], "F33")}, b"1234", "unknown type"),
        ({"w": {"dtype": [], "shape": [], "data_offsets": [0, 0]}}, b"", "unknown type"),
        ({"w": entry(0, 4, [2])}, b"1234", "spans 4 bytes"),
        ({"w": entry(0, 4, [True])}, b"1234", "not a list of sizes"),
        ({"w": entry(0, 4, [-1])}, b"1234", "not a list of sizes"),
        ({"w": entry(4, 8, [1])}, b"12345678", "begins at byte 4, expected 0"),
        ({"w": entry(0, 4, [1]), "v": entry(0, 4, [1])}, b"1234", "begins at byte 0, expected 4"),
        ({"w": entry(0, 4, [1])}, b"12345", "5 follow the header"),
        ({"w": entry(0, 4, [1])}, b"12", "2 follow the header"),
        ({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}, b"", "two data_offsets"),
        ({"__metadata__": {"a": 1}}, b"", "names to strings"),
        ({"__metadata__": []}, b"", "names to strings"),
        ({"w": entry(0, 2**70, [2**68])}, b"", "not a list of sizes"),
    ],
)
def test_it_refuses_a_header_that_lies(
    tmp_path: Path, header: Any, data: bytes, message: str
) -> None:
    with pytest.raises(HeaderError, match=message):
        read_header(write(tmp_path / "f", header, data))


@pytest.mark.parametrize(
    ("raw", "length", "message"),
    [
        (b"{}", 100, "only 10"),
        (b"{}", MAX_HEADER_BYTES + 1, "at most 16777216 are read"),
        (b"{}", 2**64 - 1, "at most"),
        (b"\xff\xfe", None, "not JSON"),
        (b"{", None, "not JSON"),
        (b"[" * 200_000, None, "not JSON"),
        (b'{"a": 1, "a": 2}', None, "'a' occurs twice"),
    ],
)
def test_it_refuses_a_damaged_file(
    tmp_path: Path, raw: bytes, length: int | None, message: str
) -> None:
    with pytest.raises(HeaderError, match=message):
        read_header(write_raw(tmp_path / "f", raw, length=length))


def test_it_refuses_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(HeaderError, match="too short"):
        read_header(tmp_path / "f")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["w", "dtype", "shape", "data_offsets", "__metadata__"]),
                    inner,
                    max_size=3,
                )
            ),
            max_leaves=8,
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_it_raises_nothing_but_header_errors(tmp_path: Path, raw: bytes) -> None:
    with suppress(HeaderError):
        read_header(write_raw(tmp_path / "f", raw))
