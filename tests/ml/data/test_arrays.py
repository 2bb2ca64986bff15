"""NPY and NPZ: tables and images, and every way in which a file of arrays can lie."""

import io
import struct
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml.data.content import Content, DataError, Pictures, Rows
from ml.data.loader import collect_content


def read(tmp_path: Path, **arrays: Any) -> Content:
    np.savez(tmp_path / "a.npz", **arrays)
    return collect_content(tmp_path / "a.npz", "npz")


def refusal(tmp_path: Path, **arrays: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        read(tmp_path, **arrays)
    return caught.value


def npy(tmp_path: Path, content: bytes | Any) -> Rows:
    path = tmp_path / "a.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    rows = collect_content(path, "npy")
    assert isinstance(rows, Rows)
    return rows


def header(text: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + data


def zip_file(tmp_path: Path, name: str, content: bytes, **options: Any) -> Path:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr(name, content)
    return path


def array_bytes(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_a_two_dimensional_x_is_a_table(tmp_path: Path) -> None:
    rows = read(tmp_path, x=np.arange(6.0).reshape(3, 2), y=np.array(["a", "b", "a"]))

    assert isinstance(rows, Rows)
    assert [each.name for each in rows.columns] == ["x0", "x1", "y"]
    assert rows.target == "y"
    assert rows.columns[2].values.tolist() == ["a", "b", "a"]


@pytest.mark.parametrize("shape", [(5, 4, 3), (5, 4, 3, 1), (5, 4, 3, 3)])
def test_more_dimensions_are_images(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pictures = read(tmp_path, images=np.zeros(shape, np.int64), label=np.arange(5))

    assert isinstance(pictures, Pictures)
    assert pictures.pixels.shape == (*shape, 1)[:4]
    assert pictures.pixels.dtype == np.uint8


def test_images_with_channels_first_are_turned(tmp_path: Path) -> None:
    pictures = read(tmp_path, x=np.zeros((2, 3, 8, 8), np.float64), y=np.arange(2))

    assert isinstance(pictures, Pictures)
    assert pictures.pixels.shape == (2, 8, 8, 3)
    assert pictures.pixels.dtype == np.float32
    assert "channels first" in pictures.warnings[0]


def test_train_and_test_parts_are_joined(tmp_path: Path) -> None:
    pictures = read(
        tmp_path,
        x_train=np.zeros((3, 4, 4), np.uint8),
        y_train=np.zeros(3, np.uint8),
        x_test=np.ones((2, 4, 4), np.uint8),
        y_test=np.ones(2, np.uint8),
    )

    assert len(pictures) == 5
    assert isinstance(pictures, Pictures)
    assert pictures.labels.values.tolist() == [0, 0, 0, 1, 1]
    assert pictures.labels.name == "y"


def test_a_two_dimensional_npy_has_its_target_last(tmp_path: Path) -> None:
    rows = npy(tmp_path, np.array([[0.5, 1.0], [1.5, 0.0]]))

    assert [(each.name, each.type) for each in rows.columns] == [
        ("x0", "number"),
        ("target", "integer"),
    ]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2", ">u4", "|u1", "|b1", "<U3", "|S3"])
def test_every_plain_type_and_order_is_read_as_numpy_reads_it(
    tmp_path: Path, dtype: str, order: Any
) -> None:
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype, order=order)
    rows = npy(tmp_path, array)

    for index, column in enumerate(rows.columns):
        expected = array[:, index].astype(str if dtype == "|S3" else array.dtype)
        assert column.values.astype(expected.dtype).tolist() == expected.tolist()


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, x=np.zeros((2, 2)), y=np.array([{}, []], dtype=object))

    assert "pickle" in error.message


def test_structured_arrays_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="structured"):
        npy(tmp_path, np.zeros(3, dtype=[("a", "f8"), ("b", "i4")]))


@pytest.mark.parametrize("dtype", ["complex64", "datetime64[s]", "timedelta64[D]"])
def test_types_that_cannot_be_learned_from_are_refused(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(DataError, match="type"):
        npy(tmp_path, np.zeros((2, 2), dtype=dtype))


def test_a_header_that_claims_a_huge_shape_is_refused(tmp_path: Path) -> None:
    text = "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 99999999), }"

    with pytest.raises(DataError, match="promises 79,9"):
        npy(tmp_path, header(text, b"\0" * 80))


def test_a_shape_of_nothing_times_everything_is_refused(tmp_path: Path) -> None:
    text = "{'descr': '<U0', 'fortran_order': False, 'shape': (99999999999, 9999999), }"

    with pytest.raises(DataError, match="type"):
        npy(tmp_path, header(text))


def test_a_header_is_never_evaluated(tmp_path: Path) -> None:
    bomb = "{'descr': '<f8', 'fortran_order': False, 'shape': (" + "(" * 9000 + ")" * 9000 + ")}"

    with pytest.raises(DataError):
        npy(tmp_path, header(bomb))


def test_an_enormous_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="claims"):
        npy(tmp_path, b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"{")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cut off"):
        npy(tmp_path, array_bytes(np.zeros((10, 10)))[:-8])


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((10, 4)), y=np.zeros(10))
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(DataError, match="damaged"):
        collect_content(path, "npz")


def test_a_damaged_member_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((10, 4)), y=np.zeros(10))
    data = bytearray(path.read_bytes())
    data[300] ^= 0xFF
    path.write_bytes(data)

    with pytest.raises(DataError, match="CRC"):
        collect_content(path, "npz")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = zip_file(
        tmp_path, "x.npy", b"\0" * (20 * 2**20), compression=zipfile.ZIP_DEFLATED, compresslevel=9
    )

    with pytest.raises(DataError, match="zip bomb"):
        collect_content(path, "npz")


def test_small_arrays_of_equal_labels_are_no_bomb(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros((50_000, 2)), y=np.zeros(50_000, np.int64))

    assert len(collect_content(path, "npz")) == 50_000


@pytest.mark.parametrize("name", ["a/x.npy", "cat.png", "x"])
def test_members_that_are_no_arrays_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="no NumPy array"):
        collect_content(zip_file(tmp_path, name, array_bytes(np.zeros(3))), "npz")


@pytest.mark.parametrize("name", ["../x.npy", "..\\x.npy", "/x.npy", "C:x.npy", "a/../../x.npy"])
def test_members_that_lead_out_of_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="leads out of it"):
        collect_content(zip_file(tmp_path, name, array_bytes(np.zeros(3))), "npz")


def test_rare_compressions_are_refused(tmp_path: Path) -> None:
    path = zip_file(tmp_path, "x.npy", b"\0" * 100, compression=zipfile.ZIP_LZMA)

    with pytest.raises(DataError, match="deflate"):
        collect_content(path, "npz")


def test_an_archive_without_labels_says_what_it_holds(tmp_path: Path) -> None:
    assert "holds weights, x;" in refusal(tmp_path, x=np.zeros((2, 2)), weights=[1, 2]).message


def test_two_arrays_for_one_role_are_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, x=np.zeros((2, 2)), data=np.zeros((2, 2)), y=np.zeros(2))

    assert "leave one out" in error.message


def test_features_and_labels_of_different_length_are_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, x=np.zeros((3, 2)), y=np.zeros(2))

    assert "x has 3 rows but y has 2" in error.message


def test_one_hot_labels_are_refused_with_the_cure(tmp_path: Path) -> None:
    assert "argmax" in refusal(tmp_path, x=np.zeros((3, 2)), y=np.eye(3)).message


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_an_image_with_a_pixel_that_is_no_number_is_refused(tmp_path: Path, value: float) -> None:
    images = np.zeros((3, 2, 2))
    images[1, 0, 0] = value

    assert refusal(tmp_path, x=images, y=np.arange(3)).row == 2


def test_an_infinite_feature_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, x=np.array([[1.0], [np.inf]]), y=np.arange(2)).row == 2


def test_text_that_is_not_unicode_is_refused(tmp_path: Path) -> None:
    surrogate = np.frombuffer(struct.pack("<I", 0xD800), dtype="<U1")

    assert refusal(tmp_path, x=np.zeros((1, 1)), y=surrogate).row == 1
    assert refusal(tmp_path, x=np.zeros((1, 1)), y=np.array([b"\xff"])).row == 1


def test_more_columns_than_the_limit_are_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, x=np.zeros((1, 10_001), np.uint8), y=np.zeros(1))

    assert "columns" in error.message


VALID_NPY = array_bytes(np.arange(6.0).reshape(3, 2))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_flipped_bytes_are_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    np.savez(tmp_path / "good.npz", x=np.arange(4.0).reshape(2, 2), y=np.arange(2))
    for content, kind in ((VALID_NPY, "npy"), ((tmp_path / "good.npz").read_bytes(), "npz")):
        damaged = bytearray(content)
        for _ in range(data.draw(st.integers(1, 4))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        path = tmp_path / "damaged"
        path.write_bytes(damaged[: data.draw(st.integers(1, len(damaged)))])
        with suppress(DataError):
            collect_content(path, kind)
