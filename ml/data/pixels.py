"""Images on disk: one NumPy file a version, written part by part.

Children that describe a dataset read it part by part, too; a trainer maps it, so that the system
keeps in memory what fits there.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ml.data.content import Array, Column, DataError, Pictures
from ml.data.npy import Header, read_header, read_parts

PIXELS_FILE = "pixels.npy"


@dataclass(frozen=True)
class PictureStream:
    """Images while they are read: parts of (n, H, W, C), which together have the shape."""

    shape: tuple[int, ...]
    dtype: type[np.uint8 | np.float32]
    parts: Iterator[Array]
    labels: Column
    warnings: list[str] = field(default_factory=list)


def write_pictures(stream: PictureStream, folder: Path) -> None:
    """Write PIXELS_FILE; raises what reading the stream does, and then leaves nothing behind."""
    path = folder / PIXELS_FILE
    try:
        with path.open("wb") as file:
            header = np.lib.format.header_data_from_array_1_0(np.empty(0, stream.dtype))
            np.lib.format.write_array_header_1_0(file, {**header, "shape": stream.shape})
            for part in stream.parts:
                file.write(np.ascontiguousarray(part, stream.dtype).data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def collect_pictures(stream: PictureStream) -> Pictures:
    """The same in memory."""
    pixels = np.empty(stream.shape, stream.dtype)
    start = 0
    for part in stream.parts:
        pixels[start : start + len(part)] = part
        start += len(part)
    return Pictures(pixels, stream.labels, stream.warnings)


class StoredPictures(Pictures):
    path: Path
    header: Header
    known_extent: tuple[float, float] | None

    def __init__(
        self,
        path: Path,
        labels: Column,
        warnings: Sequence[str] = (),
        extent: tuple[float, float] | None = None,
    ) -> None:
        """The extent is that of the schema, where there is one already."""
        if not path.is_file():
            raise DataError(f"The images of this dataset version are gone: {path}")
        with path.open("rb") as file:
            header = read_header(file, PIXELS_FILE)
        given = {"path": path, "header": header, "known_extent": extent}
        for name, value in {**given, "labels": labels, "warnings": list(warnings)}.items():
            object.__setattr__(self, name, value)

    @property
    def extent(self) -> tuple[float, float]:
        return self.known_extent or super().extent

    @property
    def pixels(self) -> Array:
        """Mapped, not read."""
        mapped: Array = np.asarray(np.load(self.path, mmap_mode="r", allow_pickle=False))
        return mapped

    @property
    def shape(self) -> tuple[int, ...]:
        return self.header.shape

    def batches(self) -> Iterator[Array]:
        with self.path.open("rb") as file:
            yield from read_parts(file, self.path.stat().st_size, PIXELS_FILE)

    def slice(self, start: int, end: int) -> Array:
        _, *sides = self.shape
        numbers = math.prod(sides)
        place = self.header.size_bytes + start * numbers * self.header.dtype.itemsize
        flat = np.fromfile(self.path, self.header.dtype, (end - start) * numbers, offset=place)
        return flat.reshape(end - start, *sides)
