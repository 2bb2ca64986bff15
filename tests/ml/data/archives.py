"""ZIP archives of images as people make them, and as nobody should."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(
    height: int = 8, width: int = 6, *, colour: Any = (200, 30, 30), form: str = "PNG", **save: Any
) -> bytes:
    mode = "L" if isinstance(colour, int) else {3: "RGB", 4: "RGBA"}[len(colour)]
    return encoded(Image.new(mode, (width, height), colour), form, **save)


def encoded(image: Image.Image, form: str = "PNG", **save: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **save)
    return stream.getvalue()


def noise(height: int, width: int, seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return encoded(Image.fromarray(pixels))


def zip_of(path: Path, members: dict[str, bytes], **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def pets(path: Path, **more: bytes) -> Path:
    """Two cats, two dogs."""
    members = {f"{kind}/{n}.png": noise(8, 6, n) for kind in ("cats", "dogs") for n in (1, 2)}
    return zip_of(path, {**members, **more})
