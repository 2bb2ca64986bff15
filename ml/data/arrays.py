"""Reads NPY and NPZ part by part: features and labels, never pickles, never more than announced."""

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ml.data.archive import check_archive, zip_errors
from ml.data.content import MAX_COLUMNS, Array, Column, DataError, check_finite
from ml.data.npy import Header, check_header, read_parts
from ml.data.pixels import PictureStream
from ml.data.stored import BATCH_ROWS, Stream

FEATURE_NAMES = ("x", "data", "images", "image", "features")
LABEL_NAMES = ("y", "label", "labels", "target", "targets")
MAX_MEMBERS = 1_000
CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class _Parts:
    """An array that is read part by part, as often as it is asked for."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    read: Callable[[], Iterator[Array]]


def read_npy(path: Path) -> Stream:
    x = _open_npy(path)
    if len(x.shape) != 2 or x.shape[1] < 2:
        raise DataError(
            f"The array has the shape {x.shape}; a table of rows and columns with the target"
            " last is needed. Save images or other shapes as NPZ: numpy.savez(file, x=…, y=…)."
        )
    y = np.concatenate([part[:, -1] for part in x.read()])
    return _table(x, x.shape[1] - 1, "target", _whole(y), [])


def read_npz(path: Path) -> Stream | PictureStream:
    with zip_errors("NPZ"), zipfile.ZipFile(path) as archive:
        members = _checked_members(archive, path)
        features, labels, warnings = _pairs(members)
        x = _open_members(archive, path, [members[name] for name in features])
        y = _open_members(archive, path, [members[name] for name in labels])
    name = labels[0].removesuffix("_train")
    if x.shape[0] != y.shape[0]:
        raise DataError(f"{features[0]} has {x.shape[0]:,} rows but {name} has {y.shape[0]:,}.")
    targets = _one_label_each(np.concatenate(list(y.read())), name)
    if len(x.shape) == 2:
        return _table(x, x.shape[1], name, targets, warnings)
    if len(x.shape) in (3, 4):
        return _pictures(x, column_of(name, targets), warnings)
    raise DataError(
        f"{features[0]} has the shape {x.shape}; 2 dimensions (a table) or 3 to 4 (images as"
        " N, H, W or N, H, W, C) can be read."
    )


def _open_npy(path: Path) -> _Parts:
    size = path.stat().st_size
    with path.open("rb") as stream:
        header = check_header(stream, size, "The file")

    def read() -> Iterator[Array]:
        with path.open("rb") as stream:
            yield from read_parts(stream, size, "The file")

    return _Parts(header.shape, header.dtype, read)


def _open_members(archive: zipfile.ZipFile, path: Path, infos: list[zipfile.ZipInfo]) -> _Parts:
    """One array after the other; all have rows of one shape."""
    headers = [_read_header(archive, info) for info in infos]
    if any(not each.shape or each.shape[1:] != headers[0].shape[1:] for each in headers):
        raise DataError(f"{' and '.join(i.filename for i in infos)} do not have rows of one shape.")
    dtype = np.result_type(*(each.dtype for each in headers))

    def read() -> Iterator[Array]:
        with zip_errors("NPZ"), zipfile.ZipFile(path) as archive:
            for info in infos:
                with archive.open(info) as stream:
                    for part in read_parts(stream, info.file_size, info.filename):
                        yield part.astype(dtype, copy=False)

    shape = (sum(each.shape[0] for each in headers), *headers[0].shape[1:])
    return _Parts(shape, dtype, read)


def _read_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Header:
    with archive.open(info) as stream:
        return check_header(stream, info.file_size, info.filename)


def column_of(name: str, values: Array, rows_before: int = 0) -> Column:
    """One column from a one-dimensional array of any plain type."""
    kind = values.dtype.kind
    if kind == "b":
        return Column(name, "boolean", values)
    if kind in "SU":
        return Column(name, "string", _texts(name, values, rows_before))
    if kind in "iu" and not (kind == "u" and values.max(initial=0) > np.iinfo(np.int64).max):
        return Column(name, "integer", values.astype(np.int64))
    floats = _float(name, values, np.float64, rows_before)
    return Column(name, "number", floats)


def _checked_members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """What the archive announces, refused before anything is unpacked."""
    mend = "Save it without compression: numpy.savez."
    infos = check_archive(archive, path, max_members=MAX_MEMBERS, mend=mend)
    for info in infos:
        if not info.filename.endswith(".npy") or "/" in info.filename:
            raise DataError(
                f"The archive holds {info.filename[:100]!r}, which is no NumPy array;"
                " save arrays alone: numpy.savez(file, x=…, y=…)."
            )
    return {info.filename.removesuffix(".npy"): info for info in infos}


def _pairs(members: dict[str, zipfile.ZipInfo]) -> tuple[list[str], list[str], list[str]]:
    """Which arrays are features and labels: `x` and `y`, or `x_train`, `x_test` and theirs."""
    warnings: list[str] = []
    features, labels = _find(members, FEATURE_NAMES), _find(members, LABEL_NAMES)
    if not features and not labels:
        features = _find(members, FEATURE_NAMES, "_train") + _find(members, FEATURE_NAMES, "_test")
        labels = _find(members, LABEL_NAMES, "_train") + _find(members, LABEL_NAMES, "_test")
        if len(features) == 2:
            warnings.append("The train and test parts are joined; the validation split is new.")
    if not features or len(features) != len(labels):
        listed = ", ".join(sorted(members)[:10]) or "nothing"
        raise DataError(
            f"The archive holds {listed}; one array of features (x, data, images, features) and"
            " one of labels (y, label, labels, target) are needed: numpy.savez(file, x=…, y=…)."
        )
    if ignored := sorted(set(members) - {*features, *labels}):
        warnings.append(
            f"Left out, because neither features nor labels: {', '.join(ignored[:10])}."
        )
    return features, labels, warnings


def _find(
    members: dict[str, zipfile.ZipInfo], names: tuple[str, ...], suffix: str = ""
) -> list[str]:
    wanted = [name + suffix for name in names]
    found = [name for name in members if name.lower() in wanted]
    if len(found) > 1:
        raise DataError(f"{' and '.join(sorted(found))} mean the same; leave one out.")
    return found


def _one_label_each(y: Array, name: str) -> Array:
    if y.ndim == 2 and y.shape[1] == 1:
        return y[:, 0]
    if y.ndim != 1:
        raise DataError(
            f"{name} has the shape {y.shape}; one label a row is needed:"
            f" numpy.argmax({name}, axis=1) turns one-hot labels into that."
        )
    return y


def _table(x: _Parts, width: int, name: str, y: Array, warnings: list[str]) -> Stream:
    """The first columns of x, so many, and the target."""
    if width > MAX_COLUMNS:
        raise DataError(f"The array has {width:,} columns; at most {MAX_COLUMNS:,} are read.")
    names = [*(f"x{index}" for index in range(width)), name]

    def batches() -> Iterator[pa.RecordBatch]:
        row = 0
        for part in _cut(x.read()):
            features = [column_of(names[place], part[:, place], row) for place in range(width)]
            target = column_of(name, y[row : row + len(part)], row)
            arrays = [pa.array(column.values) for column in (*features, target)]
            yield pa.record_batch(arrays, names=names)
            row += len(part)

    return Stream(batches(), target=name, warnings=warnings)


def _cut(parts: Iterator[Array]) -> Iterator[Array]:
    """No part has too many rows: each of its columns may become wider than it was."""
    for part in parts:
        for start in range(0, len(part), BATCH_ROWS):
            yield part[start : start + BATCH_ROWS]


def _whole(values: Array) -> Array:
    """Classes in an array of floats are whole numbers; say so by their type."""
    if values.dtype.kind != "f" or not np.isfinite(values).all():
        return values
    whole = (values == np.trunc(values)) & (np.abs(values) < 2**53)
    return values.astype(np.int64) if whole.all() else values


def _pictures(x: _Parts, labels: Column, warnings: list[str]) -> PictureStream:
    if x.dtype.kind not in "biuf":
        raise DataError(f"The images have the type {x.dtype}; numbers are needed.")
    count, *sides = x.shape
    is_turned = len(sides) == 3 and sides[2] not in CHANNELS and sides[0] in CHANNELS
    if len(sides) == 2:
        sides = [*sides, 1]
    elif is_turned:
        sides = [*sides[1:], sides[0]]
        warnings = [*warnings, "The images are stored channels first and were turned to H, W, C."]
    dtype = np.uint8 if _are_bytes(x) else np.float32

    def parts() -> Iterator[Array]:
        row = 0
        for part in x.read():
            upright = part.transpose(0, 2, 3, 1) if is_turned else part
            yield _pixels(upright.reshape(len(part), *sides), dtype, row)
            row += len(part)

    return PictureStream((count, *sides), dtype, parts(), labels, warnings)


def _are_bytes(x: _Parts) -> bool:
    if x.dtype.kind not in "biu":
        return False
    if x.dtype.itemsize == 1 and x.dtype.kind != "i":
        return True
    return all(part.min() >= 0 and part.max() <= 255 for part in x.read())


def _pixels(x: Array, dtype: type[np.uint8 | np.float32], rows_before: int) -> Array:
    if x.dtype.kind != "f":
        return x.astype(dtype)
    pixels = _float("pixels", x, np.float32, rows_before)
    flawed = ~np.isfinite(pixels).reshape(len(pixels), -1).all(axis=1)
    if flawed.any():
        row = rows_before + int(np.argmax(flawed)) + 1
        raise DataError(f"Image {row} has a pixel that is not a number.", row=row)
    return pixels


def _float(name: str, values: Array, dtype: type[np.floating], rows_before: int) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found just below
        floats = values.astype(dtype)
    largest = floats.reshape(len(floats), -1).max(axis=1) if floats.ndim > 1 else floats
    check_finite(name, largest, rows_before)
    return floats


def _texts(name: str, values: Array, rows_before: int) -> Array:
    texts = np.empty(len(values), dtype=object)
    for index in range(len(values)):
        try:
            text = values[index].item()
            text = text.decode() if isinstance(text, bytes) else text
            text.encode()
        except ValueError:
            row = rows_before + index + 1
            raise DataError(
                f"Row {row}, column {name!r}: the text is not valid Unicode.", row=row, column=name
            ) from None
        texts[index] = text.replace("\0", "")
    return texts
