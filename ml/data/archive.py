"""What any archive of a stranger may hold: checked before anything is unpacked (ZIP), or member
by member while it is (TAR, which has no directory)."""

import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from ml.data.content import DataError

MAX_RATIO = 200
RATIO_COUNTS_ABOVE_BYTES = 10 * 2**20  # small arrays of equal labels shrink a thousandfold
MAX_TOTAL_BYTES = 8 * 2**30
LONGEST_NAME = 1_000


ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
    tarfile.TarError,
)
"""So many kinds of error zipfile and tarfile raise on damaged archives."""


@contextmanager
def zip_errors(kind: str) -> Iterator[None]:
    """To a person they are one."""
    try:
        yield
    except ARCHIVE_ERRORS as error:
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
        _check_name(info.filename, seen)
        _check_member(info)
    _check_total(infos, path.stat().st_size, mend)
    return [info for info in infos if not info.is_dir()]


def has_member(path: Path, suffix: str) -> bool:
    with zip_errors("ZIP"), zipfile.ZipFile(path) as archive:
        return any(name.endswith(suffix) for name in archive.namelist())


def _check_member(info: zipfile.ZipInfo) -> None:
    name = info.filename
    # The upper half holds the file's mode on Unix; nothing there means a plain file.
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _no_plain_file(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{name!r} is compressed in a way that is not read; use deflate.")
    if info.flag_bits & 1:
        raise DataError(f"{name!r} is encrypted; save the archive without a password.")


def _no_plain_file(name: str) -> DataError:
    return DataError(
        f"{name[:100]!r} is a link or a device; an archive may hold plain files only.",
        code="unsafe_name",
    )


def _check_name(name: str, seen: set[str]) -> None:
    """Refuse a name that leads out of the archive or is there already; add it to the seen ones."""
    shown = name[:100]
    if not name:
        raise DataError("The archive has a member without a name.", code="unsafe_name")
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
    # A Mac writes é as e and an accent, other systems as one letter: one file, two spellings.
    same = unicodedata.normalize("NFC", name).rstrip("/")
    if same in seen:
        raise DataError(f"The archive has two members called {shown!r}.")
    seen.add(same)


def _check_total(infos: list[zipfile.ZipInfo], size_bytes: int, mend: str) -> None:
    # Against the real size of the file: members that overlap announce more than there is.
    _check_size(sum(info.file_size for info in infos), size_bytes, mend)


def _check_size(unpacked: int, size_bytes: int, mend: str) -> None:
    if unpacked > MAX_TOTAL_BYTES:
        raise DataError(
            f"The archive unpacks to {unpacked:,} bytes; at most {MAX_TOTAL_BYTES:,} are read.",
            code="too_large",
        )
    if unpacked > RATIO_COUNTS_ABOVE_BYTES and unpacked > MAX_RATIO * max(size_bytes, 1):
        raise DataError(
            f"The archive unpacks to {unpacked // max(size_bytes, 1):,} times its size;"
            f" more than {MAX_RATIO} times is taken for a zip bomb. {mend}",
            code="too_large",
        )


# --- Unpacking ----------------------------------------------------------------------------


def unpack(path: Path, folder: Path, *, max_members: int) -> None:
    """The plain files of a ZIP, or of a TAR compressed or not, into an empty folder.

    Raises DataError; what was unpacked until then is left for the caller to remove.
    """
    with zip_errors("ZIP or TAR"):
        if zipfile.is_zipfile(path):
            _unpack_zip(path, folder, max_members)
        else:
            _unpack_tar(path, folder, max_members)


def _unpack_zip(path: Path, folder: Path, max_members: int) -> None:
    with zipfile.ZipFile(path) as archive:
        mend = "Pack it without compression (zip -0)."
        for info in check_archive(archive, path, max_members=max_members, mend=mend):
            with archive.open(info) as stream:
                _write(stream, folder / info.filename)


def _unpack_tar(path: Path, folder: Path, max_members: int) -> None:
    seen: set[str] = set()
    unpacked = 0
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            if member.name in (".", "./"):
                continue
            _check_name(member.name.removeprefix("./"), seen)
            if len(seen) > max_members:
                raise DataError(
                    f"The archive has more than {max_members:,} members.", code="too_large"
                )
            if member.isdir():
                continue
            if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                raise _no_plain_file(member.name)
            unpacked += member.size
            _check_size(unpacked, path.stat().st_size, "Pack it without compression (tar -cf).")
            stream = archive.extractfile(member)
            assert stream is not None  # it is a plain file
            with stream:
                _write(stream, folder / member.name)


def _write(stream: IO[bytes], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        shutil.copyfileobj(stream, file, 2**20)
