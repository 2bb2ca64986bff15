"""Reads NPY and NPZ: features and labels as arrays, never pickles, never more than is announced."""

import zipfile
from pathlib import Path

import numpy as np

from ml.data.archive import check_archive, zip_errors
from ml.data.content import (
    MAX_COLUMNS,
    Array,
    Column,
    Content,
    DataError,
    Pictures,
    Rows,
    check_finite,
)
from ml.data.npy import read_array

FEATURE_NAMES = ("x", "data", "images", "image", "features")
LABEL_NAMES = ("y", "label", "labels", "target", "targets")
MAX_MEMBERS = 1_000
CHANNELS = (1, 3, 4)


def read_npy(path: Path) -> Rows:
    with path.open("rb") as stream:
        array = read_array(stream, path.stat().st_size, "The file")
    if array.ndim != 2 or array.shape[1] < 2:
        raise DataError(
            f"The array has the shape {array.shape}; a table of rows and columns with the target"
            " last is needed. Save images or other shapes as NPZ: numpy.savez(file, x=…, y=…)."
        )
    target = column_of("target", _whole(array[:, -1]))
    return Rows([*_feature_columns(array[:, :-1]), target], target="target")


def read_npz(path: Path) -> Content:
    with zip_errors("NPZ"), zipfile.ZipFile(path) as archive:
        members = _checked_members(archive, path)
        features, labels, warnings = _pairs(members)
        x = _joined(archive, [members[name] for name in features])
        y = _joined(archive, [members[name] for name in labels])
    name = labels[0].removesuffix("_train")
    if len(x) != len(y):
        raise DataError(f"{features[0]} has {len(x):,} rows but {name} has {len(y):,}.")
    target = column_of(name, _one_label_each(y, name))
    if x.ndim == 2:
        return Rows([*_feature_columns(x), target], target=name, warnings=warnings)
    if x.ndim in (3, 4):
        return _pictures(x, target, warnings)
    raise DataError(
        f"{features[0]} has the shape {x.shape}; 2 dimensions (a table) or 3 to 4 (images as"
        " N, H, W or N, H, W, C) can be read."
    )


def column_of(name: str, values: Array) -> Column:
    """One column from a one-dimensional array of any plain type."""
    kind = values.dtype.kind
    if kind == "b":
        return Column(name, "boolean", values)
    if kind in "SU":
        return Column(name, "string", _texts(name, values))
    if kind in "iu" and not (kind == "u" and values.max(initial=0) > np.iinfo(np.int64).max):
        return Column(name, "integer", values.astype(np.int64))
    floats = _float(name, values, np.float64)
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


def _joined(archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo]) -> Array:
    arrays = []
    for info in infos:
        with archive.open(info) as stream:
            arrays.append(read_array(stream, info.file_size, info.filename))
    if any(array.ndim == 0 or array.shape[1:] != arrays[0].shape[1:] for array in arrays):
        raise DataError(f"{' and '.join(i.filename for i in infos)} do not have rows of one shape.")
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _one_label_each(y: Array, name: str) -> Array:
    if y.ndim == 2 and y.shape[1] == 1:
        return y[:, 0]
    if y.ndim != 1:
        raise DataError(
            f"{name} has the shape {y.shape}; one label a row is needed:"
            f" numpy.argmax({name}, axis=1) turns one-hot labels into that."
        )
    return y


def _feature_columns(x: Array) -> list[Column]:
    if x.shape[1] > MAX_COLUMNS:
        raise DataError(f"The array has {x.shape[1]:,} columns; at most {MAX_COLUMNS:,} are read.")
    return [column_of(f"x{index}", x[:, index]) for index in range(x.shape[1])]


def _whole(values: Array) -> Array:
    """Classes in an array of floats are whole numbers; say so by their type."""
    if values.dtype.kind != "f" or not np.isfinite(values).all():
        return values
    whole = (values == np.trunc(values)) & (np.abs(values) < 2**53)
    return values.astype(np.int64) if whole.all() else values


def _pictures(x: Array, labels: Column, warnings: list[str]) -> Pictures:
    if x.dtype.kind not in "biuf":
        raise DataError(f"The images have the type {x.dtype}; numbers are needed.")
    if x.ndim == 3:
        x = x[..., np.newaxis]
    elif x.shape[3] not in CHANNELS and x.shape[1] in CHANNELS:
        x = x.transpose(0, 2, 3, 1)
        warnings = [*warnings, "The images are stored channels first and were turned to H, W, C."]
    return Pictures(_pixels(x), labels, warnings)


def _pixels(x: Array) -> Array:
    if x.dtype.kind in "biu" and x.min() >= 0 and x.max() <= 255:
        return np.ascontiguousarray(x, dtype=np.uint8)
    if x.dtype.kind == "f":
        x = _float("pixels", x, np.float32)
        flawed = ~np.isfinite(x).reshape(len(x), -1).all(axis=1)
        if flawed.any():
            row = int(np.argmax(flawed)) + 1
            raise DataError(f"Image {row} has a pixel that is not a number.", row=row)
    return np.ascontiguousarray(x, dtype=np.float32)


def _float(name: str, values: Array, dtype: type[np.floating]) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found just below
        floats = values.astype(dtype)
    check_finite(name, floats.reshape(len(floats), -1).max(axis=1) if floats.ndim > 1 else floats)
    return floats


def _texts(name: str, values: Array) -> Array:
    texts = np.empty(len(values), dtype=object)
    for index in range(len(values)):
        try:
            text = values[index].item()
            text = text.decode() if isinstance(text, bytes) else text
            text.encode()
        except ValueError:
            row = index + 1
            raise DataError(
                f"Row {row}, column {name!r}: the text is not valid Unicode.", row=row, column=name
            ) from None
        texts[index] = text.replace("\0", "")
    return texts
