"""Reads a ZIP of images, one folder a class: PNG, JPEG and WebP, brought to one size.

Pillow decodes what strangers made, so this runs in a child with limits; it is asked for
these three formats only, and never for more pixels than are allowed.
"""

import unicodedata
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from statistics import median_low
from typing import IO, Literal

import numpy as np
from PIL import Image, ImageOps

from ml.data.archive import check_archive, zip_errors
from ml.data.content import MAX_NAME_CHARACTERS, Array, Column, DataError
from ml.data.pixels import PictureStream

FORMATS = ("PNG", "JPEG", "WEBP")
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation"}
MAX_MEMBERS = 100_000
MAX_PIXELS = 40_000_000
MAX_IMAGE_BYTES = 128 * 2**20
MAX_SIDE = 256
MAX_ARRAY_BYTES = 8 * 2**30
"""Of all pixels together, on disk."""
LABEL = "label"

Mode = Literal["L", "RGB"]


@dataclass(frozen=True)
class _Member:
    info: zipfile.ZipInfo
    label: str


@dataclass(frozen=True)
class _Facts:
    """What an image's header says; height and width as it is meant to be looked at."""

    height: int
    width: int
    is_grey: bool
    is_animated: bool
    is_transparent: bool


def read_image_zip(path: Path) -> PictureStream:
    """All images, uint8 (N, H, W, C), in the order of classes and names."""
    with zip_errors("ZIP"), zipfile.ZipFile(path) as archive:
        mend = "Save the images without compression (zip -0)."
        infos = check_archive(archive, path, max_members=MAX_MEMBERS, mend=mend)
        members, notes = _members(infos)
        facts = [_read_facts(archive, member) for member in members]
    height, width = _common_size(facts)
    mode: Mode = "L" if all(each.is_grey for each in facts) else "RGB"

    def parts() -> Iterator[Array]:
        with zip_errors("ZIP"), zipfile.ZipFile(path) as archive:
            for member in members:
                yield _read_pixels(archive, member, (width, height), mode)[np.newaxis]

    labels = np.array([member.label for member in members], dtype=object)
    return PictureStream(
        (len(members), height, width, len(mode)),
        np.uint8,
        parts(),
        Column(LABEL, "string", labels),
        [*notes, *_notes(facts, height, width)],
    )


# --- Which files, which classes -----------------------------------------------------------


def _members(infos: list[zipfile.ZipInfo]) -> tuple[list[_Member], list[str]]:
    """The images with the names of their folders, and what to tell about the rest."""
    visible = [info for info in infos if not _is_hidden(info.filename)]
    images = [info for info in visible if info.filename.lower().endswith(ENDINGS)]
    if not images:
        listed = ", ".join(repr(info.filename[:60]) for info in visible[:5]) or "nothing"
        raise DataError(
            f"The archive holds {listed}; PNG, JPEG or WebP images in one folder a class are"
            " needed: cats/1.png, dogs/1.png, …"
        )
    notes = _left_out([info.filename for info in visible if info not in images])
    paths = [PurePosixPath(info.filename) for info in images]
    depth, split_notes = _class_depth(paths)
    members = sorted(
        (_Member(info, _label(path, depth)) for info, path in zip(images, paths, strict=True)),
        key=lambda member: (member.label, member.info.filename),
    )
    if members[0].label == members[-1].label:
        raise DataError(
            f"All images lie in the folder {members[0].label!r}; at least two folders, one a"
            " class, are needed."
        )
    return members, [*notes, *split_notes]


def _is_hidden(name: str) -> bool:
    """What systems leave in archives: __MACOSX, .DS_Store, Thumbs.db."""
    parts = PurePosixPath(name).parts
    return parts[-1] == "Thumbs.db" or any(part.startswith((".", "__MACOSX")) for part in parts)


def _left_out(names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    listed = ", ".join(name[:60] for name in names[:5])
    return [f"Left out, because not PNG, JPEG or WebP: {listed}{more}."]


def _class_depth(paths: list[PurePosixPath]) -> tuple[int, list[str]]:
    """At which part of the paths the classes stand: below a folder that holds everything, and
    below train/ and test/, which are joined."""
    depth, notes = 0, []
    shortest = min(len(path.parts) for path in paths)
    while depth + 2 < shortest:
        tops = {path.parts[depth] for path in paths}
        if {top.lower() for top in tops} <= SPLITS:
            if len(tops) > 1:
                listed = ", ".join(sorted(tops))
                notes = [f"The parts {listed} are joined; the validation split is new."]
        elif len(tops) > 1:
            break
        depth += 1
    return depth, notes


def _label(path: PurePosixPath, depth: int) -> str:
    if len(path.parts) == depth + 2:
        return _checked(path.parts[depth])
    if len(path.parts) < depth + 2:
        raise DataError(
            f"{str(path)[:100]!r} lies in no folder; put each image into a folder named after"
            " its class: cats/1.png, dogs/1.png, …"
        )
    raise DataError(
        f"{str(path)[:100]!r} lies deeper than the other images; put the images right into the"
        " folder of their class."
    )


def _checked(label: str) -> str:
    if len(label) > MAX_NAME_CHARACTERS:
        raise DataError(
            f"The folder {label[:60]!r}… has a name of {len(label):,} characters;"
            f" at most {MAX_NAME_CHARACTERS} are allowed."
        )
    return unicodedata.normalize("NFC", label)


# --- Reading ------------------------------------------------------------------------------


def _read_facts(archive: zipfile.ZipFile, member: _Member) -> _Facts:
    """From the header alone; nothing is decoded yet."""
    if member.info.file_size > MAX_IMAGE_BYTES:
        raise _refusal(member, f"has {member.info.file_size:,} bytes; {MAX_IMAGE_BYTES:,} may be")
    with archive.open(member.info) as stream:
        try:
            image = _open(stream, member)
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            width, height = image.size[::-1] if turned else image.size
            return _Facts(
                height=height,
                width=width,
                is_grey=image.mode in ("1", "L", "LA", "I", "I;16", "I;16B"),
                is_animated=getattr(image, "n_frames", 1) > 1,
                is_transparent=image.has_transparency_data,
            )
        except (DataError, MemoryError):
            raise
        # A decoder fed by strangers raises nearly anything: whatever it is, it is this image.
        except Exception as error:
            raise _broken(member, error) from error


def _read_pixels(
    archive: zipfile.ZipFile, member: _Member, size: tuple[int, int], mode: Mode
) -> Array:
    with archive.open(member.info) as stream:
        try:
            image = _open(stream, member)
            image.draft(mode, (size[0] * 2, size[1] * 2))  # a JPEG can be decoded smaller
            upright = _plain(ImageOps.exif_transpose(image), mode)
            return _as_array(upright.resize(size, Image.Resampling.LANCZOS), mode)
        except (DataError, MemoryError):
            raise
        # As above: the header was right, the rest may not be.
        except Exception as error:
            raise _broken(member, error) from error


def _open(stream: IO[bytes], member: _Member) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about size, which is judged below
        Image.MAX_IMAGE_PIXELS = None
        image = Image.open(stream, formats=FORMATS)
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise _refusal(
            member,
            f"has {image.width:,} × {image.height:,} pixels; at most {MAX_PIXELS:,} are read",
        )
    return image


def _plain(image: Image.Image, mode: Mode) -> Image.Image:
    """Grey or colour without transparency: what is clear becomes white, as paper is."""
    if image.mode.startswith("I"):
        return _darken(image).convert(mode)
    if not image.has_transparency_data:
        return image.convert(mode)
    clear = image.convert("RGBA")
    paper = Image.new("RGBA", clear.size, "white")
    paper.alpha_composite(clear)
    return paper.convert(mode)


def _darken(image: Image.Image) -> Image.Image:
    """16 bits a pixel to 8; Pillow's own conversion would cut off everything above 255."""
    values = np.asarray(image, dtype=np.int64)
    return Image.fromarray((np.clip(values, 0, 65_535) >> 8).astype(np.uint8))


def _as_array(image: Image.Image, mode: Mode) -> Array:
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[..., np.newaxis] if mode == "L" else pixels


def _common_size(facts: list[_Facts]) -> tuple[int, int]:
    """The median height and width, made smaller until all images together are not too large."""
    height = median_low(each.height for each in facts)
    width = median_low(each.width for each in facts)
    channels = 1 if all(each.is_grey for each in facts) else 3
    room = MAX_ARRAY_BYTES / (len(facts) * channels * height * width)
    scale = min(1.0, MAX_SIDE / max(height, width), room**0.5)
    return max(1, int(height * scale)), max(1, int(width * scale))


def _notes(facts: list[_Facts], height: int, width: int) -> list[str]:
    notes = []
    sizes = Counter((each.height, each.width) for each in facts)
    if sizes.keys() != {(height, width)}:
        low, high = min(sizes), max(sizes)
        found = f"{low[0]} × {low[1]} to {high[0]} × {high[1]}" if low != high else _size(low)
        notes.append(f"The images ({found}) are brought to {height} × {width} (height × width).")
    for count, sentence in (
        (sum(each.is_animated for each in facts), "{} animated: the first picture is taken."),
        (sum(each.is_transparent for each in facts), "{} transparent: the ground is made white."),
    ):
        if count:
            notes.append(sentence.format(f"{count:,} image is" if count == 1 else f"{count:,} are"))
    return notes


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"


def _refusal(member: _Member, sentence: str) -> DataError:
    return DataError(f"{member.info.filename[:100]!r} {sentence}.", code="too_large")


def _broken(member: _Member, error: Exception) -> DataError:
    if isinstance(error, DataError):
        return error
    name = member.info.filename[:100]
    detail = str(error).split("<", 1)[0].strip()[:120] or type(error).__name__
    return DataError(
        f"{name!r} cannot be read as a PNG, JPEG or WebP image ({detail});"
        " replace it, or take it out of the archive."
    )
