"""A page of rows as JSON for people to look at: long texts cut, images as small PNGs."""

import base64
import struct
import zlib
from typing import Any

import numpy as np

from ml.data.content import Array, Column, Content, Pictures
from ml.data.schema import image_column

PREVIEW_ROWS = 100
MAX_PREVIEW_COLUMNS = 200
MAX_CHARACTERS = 200
MAX_SIDE = 64


def preview_rows(content: Content, offset: int, limit: int) -> dict[str, Any]:
    """`columns` (names), `types`, `rows` (lists of cells), `total`, `columns_total`."""
    offset = min(offset, len(content))
    end = min(offset + limit, len(content))
    if isinstance(content, Pictures):
        return _preview_pictures(content, offset, end)
    shown = content.slice(offset, end).columns[:MAX_PREVIEW_COLUMNS]
    cells = [[cell(column, row) for row in range(end - offset)] for column in shown]
    return {
        "columns": [column.name for column in shown],
        "types": [column.type for column in shown],
        "rows": [list(row) for row in zip(*cells, strict=True)],
        "total": len(content),
        "columns_total": len(content.columns),
    }


def _preview_pictures(pictures: Pictures, offset: int, end: int) -> dict[str, Any]:
    low, high = pictures.extent
    labels = pictures.labels
    shown = zip(pictures.slice(offset, end), range(offset, end), strict=True)
    return {
        "columns": [image_column(pictures), labels.name],
        "types": ["image", labels.type],
        "rows": [
            [image_url(pixels, float(low), float(high)), cell(labels, row)] for pixels, row in shown
        ],
        "total": len(pictures),
        "columns_total": 2,
    }


def cell(column: Column, row: int) -> int | float | bool | str | None:
    value = column.values[row]
    if value is None or (isinstance(value, np.floating) and np.isnan(value)):
        return None
    if column.type == "string":
        text = str(value)
        return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "…"
    if column.type == "boolean":
        return bool(value)
    return int(value) if column.type == "integer" else float(value)


def image_url(pixels: Array, low: float, high: float) -> str:
    """A data URL of one image (H, W, C), its values stretched from `low`–`high` to 0–255."""
    step = max(1, -(-max(pixels.shape[:2]) // MAX_SIDE))
    small = pixels[::step, ::step].astype(np.float64)
    grey = small if small.shape[2] in (1, 3, 4) else small[..., :1]
    scaled = np.rint((grey - low) * (255.0 / ((high - low) or 1.0))).astype(np.uint8)
    return "data:image/png;base64," + base64.b64encode(_png(scaled)).decode()


def _png(pixels: Array) -> bytes:
    """https://www.w3.org/TR/png-3/ : 8 bits, grey, RGB or RGBA, no filter."""
    height, width, channels = pixels.shape
    colour = {1: 0, 3: 2, 4: 6}[channels]
    lines = np.zeros((height, 1 + width * channels), np.uint8)
    lines[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
