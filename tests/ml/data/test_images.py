"""ZIPs of images by class folder: what is read, what becomes of it, and what is refused."""

import struct
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ml.data import Images, load
from ml.data.content import DataError, Pictures
from ml.data.importer import import_dataset
from ml.data.loader import collect_content
from tests.ml.data.archives import encoded, noise, pets, picture, zip_of


def decode(path: Path) -> Pictures:
    pictures = collect_content(path, "zip")
    assert isinstance(pictures, Pictures)
    return pictures


def read(tmp_path: Path, members: dict[str, bytes]) -> Pictures:
    return decode(zip_of(tmp_path / "a.zip", members))


def refusal(tmp_path: Path, members: dict[str, bytes]) -> DataError:
    with pytest.raises(DataError) as caught:
        read(tmp_path, members)
    return caught.value


def labels(pictures: Pictures) -> list[str]:
    return [str(label) for label in pictures.labels.values]


def test_folders_are_classes(tmp_path: Path) -> None:
    pictures = decode(pets(tmp_path / "a.zip"))

    assert labels(pictures) == ["cats", "cats", "dogs", "dogs"]
    assert (pictures.pixels.shape, pictures.pixels.dtype.name) == ((4, 8, 6, 3), "uint8")
    assert pictures.warnings == []


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_each_format_is_read(tmp_path: Path, form: str) -> None:
    image = picture(form=form, quality=95) if form != "PNG" else picture()
    pictures = read(tmp_path, {"a/1.png": image, "b/1.webp": image})

    assert np.abs(pictures.pixels[0, 4, 3].astype(int) - (200, 30, 30)).max() < 8


def test_a_folder_around_everything_does_not_count(tmp_path: Path) -> None:
    members = {"pets/cats/1.png": picture(), "pets/dogs/1.png": picture()}

    assert labels(read(tmp_path, members)) == ["cats", "dogs"]


def test_train_and_test_parts_are_joined_and_said(tmp_path: Path) -> None:
    members = {f"x/{part}/{kind}/1.png": picture() for part in ("train", "test") for kind in "ab"}
    pictures = read(tmp_path, members)

    assert labels(pictures) == ["a", "a", "b", "b"]
    assert "joined" in pictures.warnings[0]


def test_sizes_become_the_median_and_the_schema_says_so(tmp_path: Path) -> None:
    sizes = [(10, 20), (30, 40), (50, 60)]
    members = {f"{kind}/{h}.png": noise(h, w, h) for kind in "ab" for h, w in sizes}
    pictures = read(tmp_path, members)

    assert pictures.pixels.shape == (6, 30, 40, 3)
    assert pictures.warnings == [
        "The images (10 × 20 to 50 × 60) are brought to 30 × 40 (height × width)."
    ]


def test_large_images_become_small_ones_of_the_same_form(tmp_path: Path) -> None:
    members = {f"{kind}/1.jpg": picture(400, 800, form="JPEG") for kind in "ab"}

    assert read(tmp_path, members).pixels.shape == (2, 128, 256, 3)


def test_grey_images_keep_one_channel(tmp_path: Path) -> None:
    pictures = read(tmp_path, {"a/1.png": picture(colour=7), "b/1.png": picture(colour=9)})

    assert pictures.pixels.shape == (2, 8, 6, 1)
    assert pictures.pixels[:, 0, 0, 0].tolist() == [7, 9]


def test_one_colour_among_grey_makes_all_of_them_colour(tmp_path: Path) -> None:
    pictures = read(tmp_path, {"a/1.png": picture(colour=7), "b/1.png": picture()})

    assert pictures.pixels[0, 0, 0].tolist() == [7, 7, 7]


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    deep = encoded(Image.fromarray(np.full((4, 4), 0x8000, np.uint16)))
    pictures = read(tmp_path, {"a/1.png": deep, "b/1.png": deep})

    assert pictures.pixels.max() == 0x80


def test_what_is_clear_becomes_white(tmp_path: Path) -> None:
    clear = picture(colour=(255, 0, 0, 0))
    pictures = read(tmp_path, {"a/1.png": clear, "b/1.png": clear})

    assert pictures.pixels.min() == 255
    assert "transparent" in pictures.warnings[0]


def test_a_picture_taken_on_its_side_stands_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    members = {f"{kind}/1.jpg": picture(8, 16, form="JPEG", exif=exif) for kind in "ab"}

    assert read(tmp_path, members).pixels.shape == (2, 16, 8, 3)


def test_what_systems_leave_in_archives_is_passed_over(tmp_path: Path) -> None:
    members = {
        "a/1.png": picture(), "b/1.png": picture(), "__MACOSX/a/._1.png": b"x",
        "a/.DS_Store": b"x", "a/Thumbs.db": b"x", "README.md": b"x",
    }  # fmt: skip
    pictures = read(tmp_path, members)

    assert len(pictures) == 2
    assert pictures.warnings == ["Left out, because not PNG, JPEG or WebP: README.md."]


def test_it_is_imported_once_and_learned_from_as_arrays(tmp_path: Path) -> None:
    pets(tmp_path / "upload")
    original = (tmp_path / "upload").read_bytes()
    schema = import_dataset(tmp_path, "upload")

    assert (schema["format"], schema["kind"], schema["target"]) == ("zip", "image", "label")
    assert schema["dimensions"] == [4, 8, 6, 3]
    assert (tmp_path / "data.zip").read_bytes() == original
    (tmp_path / "data.zip").write_bytes(b"")  # nobody decodes it again
    data = load(tmp_path)
    assert isinstance(data, Images)
    assert data.labels.tolist() == ["cats", "cats", "dogs", "dogs"]


# --- What is refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({}, "holds nothing"),
        ({"a/1.gif": b"GIF89a", "b/x.txt": b"x"}, "PNG, JPEG or WebP images"),
        ({"1.png": picture(), "a/2.png": picture()}, "lies in no folder"),
        ({"a/1.png": picture(), "b/1.png": picture(), "b/c/2.png": picture()}, "lies deeper"),
        ({"a/1.png": picture(), "a/2.png": picture()}, "at least two folders"),
        ({"a/1.png": b"no image", "b/1.png": picture()}, "'a/1.png' cannot be read"),
        ({"a/1.png": picture()[:50], "b/1.png": picture()}, "'a/1.png' cannot be read"),
        ({"a/1.png": b"", "b/1.png": picture()}, "'a/1.png' cannot be read"),
        ({"a/1.png": b"GIF89a\1\0\1\0\0\0\0;", "b/1.png": picture()}, "cannot be read"),
        ({"../a/1.png": picture()}, "leads out"),
        ({"/etc/1.png": picture()}, "leads out"),
        ({"a\\..\\1.png": picture()}, "leads out"),
        ({"a/\u001b[2J.png": picture()}, "control character"),
        ({"caf\u00e9/1.png": picture(), "cafe\u0301/1.png": picture()}, "two members called"),
        ({f"{'a' * 201}/1.png": picture(), "b/1.png": picture()}, "201 characters"),
    ],
)
def test_a_wrong_archive_is_refused_with_the_name_and_the_cure(
    tmp_path: Path, members: dict[str, bytes], sentence: str
) -> None:
    assert sentence in refusal(tmp_path, members).message


def test_a_link_is_refused(tmp_path: Path) -> None:
    path = pets(tmp_path / "a.zip")
    link = zipfile.ZipInfo("cats/3.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")

    with pytest.raises(DataError, match="is a link"):
        decode(path)


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    error = refusal(tmp_path, {"a/1.png": bomb, "b/1.png": picture()})

    assert (error.code, "20,000 × 20,000 pixels" in error.message) == ("too_large", True)


def test_a_text_bomb_inside_an_image_is_refused(tmp_path: Path) -> None:
    text = b"key\0\0" + zlib.compress(b"x" * 80_000_000)
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text
    chunk += struct.pack(">I", zlib.crc32(b"zTXt" + text))
    good = picture()
    bomb = good[:33] + chunk + good[33:]

    assert "cannot be read" in refusal(tmp_path, {"a/1.png": bomb, "b/1.png": good}).message


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    path = zip_of(
        tmp_path / "a.zip", {"a/1.png": b"\0" * (20 * 2**20)}, compression=zipfile.ZIP_DEFLATED
    )

    with pytest.raises(DataError, match="zip bomb"):
        decode(path)


def test_members_that_share_their_bytes_count_as_a_bomb(tmp_path: Path) -> None:
    """Each entry of the directory points at the same data: sizes add up, the file stays small."""
    path = zip_of(
        tmp_path / "a.zip", {"a/1.png": b"\0" * (2 * 2**20)}, compression=zipfile.ZIP_DEFLATED
    )
    data = path.read_bytes()
    start = data.index(b"PK\1\2")
    end = data.index(b"PK\5\6")
    entry = data[start:end]
    many = b"".join(entry.replace(b"a/1.png", b"a/%03d" % n) for n in range(300))
    tail = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 300, 300, len(many), start, 0)
    path.write_bytes(data[:start] + many + tail)

    with pytest.raises(DataError):
        decode(path)


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml.data.images.MAX_MEMBERS", 3)
    with pytest.raises(DataError, match="at most 3 are read"):
        decode(pets(tmp_path / "a.zip"))


def test_all_images_together_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml.data.images.MAX_ARRAY_BYTES", 4 * 4 * 3 * 3)
    assert decode(pets(tmp_path / "a.zip")).pixels.nbytes <= 4 * 4 * 3 * 3


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.floats(0, 1), byte=st.integers(0, 255), cut=st.booleans())
def test_damage_is_read_or_refused_but_never_anything_else(
    tmp_path: Path, place: float, byte: int, cut: bool
) -> None:
    data = bytearray(pets(tmp_path / "a.zip").read_bytes())
    at = int(place * (len(data) - 1))
    data[at] = byte
    (tmp_path / "a.zip").write_bytes(data[:at] if cut else data)

    with suppress(DataError):
        decode(tmp_path / "a.zip")
