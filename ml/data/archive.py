"""What any ZIP of a stranger may hold, checked from its directory before anything is unpacked."""

import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ml.data.content import DataError

MAX_RATIO = 200
RATIO_COUNTS_ABOVE_BYTES = 10 * 2**20  # small arrays of equal labels shrink a thousandfold
MAX_TOTAL_BYTES = 8 * 2**30
LONGEST_NAME = 1_000


@contextmanager
def zip_errors(kind: str) -> Iterator[None]:
    """zipfile raises this many kinds of error on damaged archives; to a person they are one."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        NotImplementedError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        OverflowError,
    ) as error:
        raise DataError(f"The {kind} archive is damaged or not a plain one: {error}") from error


def check_archive(
    archive: zipfile.ZipFile, path: Path, *, max_members: int, mend: str
) -> list[zipfile.ZipInfo]:
    """The members that are files; `mend` says how to make a plain archive of them."""
    infos = archive.infolist()
    if len(infos) > max_members:
        raise DataError(
            f"The archive has {len(infos):,} members; at most {max_members:,} are read.",
            code="too_large",
        )
    seen: set[str] = set()
    for info in infos:
        _check_member(info, seen)
    _check_total(infos, path.stat().st_size, mend)
    return [info for info in infos if not info.is_dir()]


def has_member(path: Path, suffix: str) -> bool:
    with zip_errors("ZIP"), zipfile.ZipFile(path) as archive:
        return any(name.endswith(suffix) for name in archive.namelist())


def _check_member(info: zipfile.ZipInfo, seen: set[str]) -> None:
    name = info.filename
    _check_name(name)
    # A Mac writes é as e and an accent, other systems as one letter: one file, two spellings.
    same = unicodedata.normalize("NFC", name)
    if same in seen:
        raise DataError(f"The archive has two members called {name!r}.")
    seen.add(same)
    # The upper half holds the file's mode on Unix; nothing there means a plain file.
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DataError(
            f"{name!r} is a link or a device; an archive may hold plain files only.",
            code="unsafe_name",
        )
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{name!r} is compressed in a way that is not read; use deflate.")
    if info.flag_bits & 1:
        raise DataError(f"{name!r} is encrypted; save the archive without a password.")


def _check_name(name: str) -> None:
    shown = name[:100]
    if len(name) > LONGEST_NAME:
        raise DataError(f"The name {shown!r}… has {len(name):,} characters.", code="unsafe_name")
    if "\\" in name or name.startswith("/") or ".." in PurePosixPath(name).parts or ":" in name:
        raise DataError(
            f"The archive holds {shown!r}, a path that leads out of it; names must be relative"
            " with forward slashes and without '..'.",
            code="unsafe_name",
        )
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise DataError(f"The name {shown!r} has a control character.", code="unsafe_name")


def _check_total(infos: list[zipfile.ZipInfo], size_bytes: int, mend: str) -> None:
    unpacked = sum(info.file_size for info in infos)
    if unpacked > MAX_TOTAL_BYTES:
        raise DataError(
            f"The archive unpacks to {unpacked:,} bytes; at most {MAX_TOTAL_BYTES:,} are read.",
            code="too_large",
        )
    # Against the real size of the file: members that overlap announce more than there is.
    if unpacked > RATIO_COUNTS_ABOVE_BYTES and unpacked > MAX_RATIO * max(size_bytes, 1):
        raise DataError(
            f"The archive unpacks to {unpacked // max(size_bytes, 1):,} times its size;"
            f" more than {MAX_RATIO} times is taken for a zip bomb. {mend}",
            code="too_large",
        )
