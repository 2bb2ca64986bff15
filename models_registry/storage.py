"""Folders of model versions under MODELS_DIR: taken in whole, never changed.

`.incoming` holds copies that are not yet a version; no model's name begins with a dot.
"""

import errno
import hashlib
import itertools
import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from django.conf import settings

from mlserver.lib.errors import Invalid, NoSpace
from models_registry.models import ModelVersion

CHUNK_BYTES = 2**20
SPARE_BYTES = 64 * 2**20  # left free for the database and logs
DAY_SECONDS = 24 * 3600


class StoredFile(TypedDict):
    """One file of a version; `path` is relative to its folder, with forward slashes."""

    path: str
    size_bytes: int
    sha256: str


def copy_in(source: Path) -> tuple[Path, list[StoredFile]]:
    """A durable copy beside the models, to be placed or removed by the caller."""
    names = sorted(_walk(source, Path()))
    if not names:
        raise Invalid(f"There are no files in {source.name}; a model is a folder with files.")
    _check_space(sum((source / name).stat().st_size for name in names))
    target = settings.MODELS_DIR / ".incoming" / uuid.uuid4().hex
    try:
        files = [_copy_file(source, target, name) for name in names]
    except OSError as error:
        remove(target)
        if error.errno == errno.ENOSPC:
            raise NoSpace("The disk became full while the model was copied.") from error
        raise
    for folder in {target, *(parent for name in names for parent in (target / name).parents)}:
        if folder.is_relative_to(target):
            _sync_folder(folder)
    return target, files


def free_path(name: str, number: int) -> str:
    """`digits/v1`, unless a folder is there or promised: of a model that was deleted and whose
    files are on their way to the trash, or of one that died before its row was made."""
    names = itertools.chain([name], (f"{name}~{count}" for count in itertools.count(2)))
    return next(path for each in names if _is_free(path := f"{each}/v{number}"))


def _is_free(path: str) -> bool:
    is_promised = ModelVersion.objects.filter(file_path=path).exists()
    return not is_promised and not (settings.MODELS_DIR / path).exists()


def place(incoming: Path, file_path: str) -> None:
    """Give a copy its lasting name, which nothing has yet."""
    target = settings.MODELS_DIR / file_path
    target.parent.mkdir(parents=True, exist_ok=True)
    incoming.rename(target)
    _sync_folder(target.parent)


def clear_incoming(older_than_seconds: float = DAY_SECONDS) -> int:
    """Remove copies that never became a version because their process was killed."""
    limit = time.time() - older_than_seconds
    incoming = (settings.MODELS_DIR / ".incoming").glob("*")
    old = [folder for folder in incoming if folder.stat().st_mtime < limit]
    for folder in old:
        remove(folder)
    return len(old)


def remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _walk(root: Path, inner: Path) -> Iterator[Path]:
    """Relative paths of all files. Links could lead out of the folder, so they are refused."""
    with os.scandir(root / inner) as entries:
        found = [(inner / entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
    for path, facts in found:
        if stat.S_ISDIR(facts.st_mode):
            yield from _walk(root, path)
        elif stat.S_ISREG(facts.st_mode):
            yield path
        else:
            raise Invalid(f"{path} is no plain file; a model's folder holds plain files only.")


def _check_space(needed: int) -> None:
    free = shutil.disk_usage(settings.MODELS_DIR).free
    if free < needed + SPARE_BYTES:
        raise NoSpace(f"The model takes {needed} bytes, but only {free} are free on its disk.")


def _copy_file(source: Path, target: Path, name: Path) -> StoredFile:
    """Copied and not linked, so that nobody can change a version through its run directory."""
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with (source / name).open("rb") as reader, (target / name).open("xb") as writer:
        while chunk := reader.read(CHUNK_BYTES):
            digest.update(chunk)
            size += writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    return {"path": name.as_posix(), "size_bytes": size, "sha256": digest.hexdigest()}


def _sync_folder(folder: Path) -> None:
    """A rename is durable only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
