"""Files on disk: taken in with a limit and a hash, made durable, moved into place, kept inside.

Knows nothing of what a file means.
"""

import errno
import hashlib
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mlserver.lib.errors import NoSpace, TooLarge

logger = logging.getLogger(__name__)

CHUNK_BYTES = 2**20
SPARE_BYTES = 64 * 2**20
"""Always left free, for the database and the logs."""
LOOK_EVERY_BYTES = 64 * 2**20
INCOMING = ".incoming"


@dataclass(frozen=True)
class ReceivedFile:
    path: Path
    size_bytes: int
    sha256: str


@contextmanager
def incoming_folder(root: Path) -> Iterator[Path]:
    """A folder on the volume of `root` for what is not finished; gone at the end unless moved."""
    folder = root / INCOMING / uuid.uuid4().hex
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        remove_folder(folder)


def receive(chunks: Iterable[bytes], path: Path, *, max_bytes: int) -> ReceivedFile:
    """Write a stream to a new file, durably. TooLarge and NoSpace leave no file behind."""
    try:
        return _write(chunks, path, max_bytes)
    except OSError as error:
        path.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace("The disk became full during the upload; nothing was kept.") from error
        raise
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _write(chunks: Iterable[bytes], path: Path, max_bytes: int) -> ReceivedFile:
    digest, size, looked_at = hashlib.sha256(), 0, 0
    with path.open("xb") as stream:
        for chunk in chunks:
            size += len(chunk)
            if size > max_bytes:
                raise TooLarge(f"The file is larger than {max_bytes:,} bytes, the limit here.")
            if size - looked_at > LOOK_EVERY_BYTES:
                require_space(path.parent, len(chunk))
                looked_at = size
            digest.update(chunk)
            stream.write(chunk)
        stream.flush()
        os.fsync(stream.fileno())
    return ReceivedFile(path, size, digest.hexdigest())


def read_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def require_space(folder: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed_bytes + SPARE_BYTES:
        raise NoSpace(
            f"This needs {needed_bytes:,} bytes but only {free:,} are free on the disk"
            f" ({SPARE_BYTES:,} are kept for the server)."
        )


def move_into_place(folder: Path, target: Path) -> None:
    """Give a finished folder its lasting name, durably; both must lie on one volume."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        sync(path)
    sync(folder)
    folder.rename(target)
    sync(target.parent)


def remove_folder(folder: Path) -> None:
    """Remove what nothing points to any more; what cannot be removed is only garbage."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        logger.warning("Could not remove %s: %s", folder, error)


def remove_old_incoming(root: Path, older_than_seconds: float) -> int:
    """Clear away incoming folders whose process was killed; returns how many."""
    limit = time.time() - older_than_seconds
    old = [folder for folder in (root / INCOMING).glob("*") if folder.stat().st_mtime < limit]
    for folder in old:
        remove_folder(folder)
    return len(old)


def sync(path: Path) -> None:
    """A write is durable only when its file is synced, a rename only when its folder is."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def find_inside(root: Path, path: str, *, may_be_folder: bool = False) -> Path | None:
    """The plain file `path` under `root`, or None: no `..`, no links that lead out, no hidden
    names. An absolute path counts when it lies inside."""
    if "\0" in path or ".." in PurePosixPath(path).parts:
        return None
    real_root = root.resolve()
    candidate = real_root / path  # an absolute `path` replaces the root; checked below
    try:
        real = candidate.resolve(strict=True)
    except (OSError, RuntimeError):  # absent, a loop of links, a name too long
        return None
    is_found = real.is_file() or (may_be_folder and real.is_dir())
    if not real.is_relative_to(real_root) or not is_found:
        return None
    hidden = any(part.startswith(".") for part in real.relative_to(real_root).parts)
    return None if hidden else real
