"""Checks that a model's files are the ones that were registered, before anything reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ml.serve.errors import LoadRefused


def verify_files(folder: Path, files: Iterable[Mapping[str, Any]]) -> None:
    """Plain files only, none too many, none missing, none changed; raises LoadRefused."""
    wanted = {entry["path"]: entry["sha256"] for entry in files}
    found = _list_files(folder)
    if strange := sorted(found - wanted.keys()):
        raise LoadRefused(
            f"{strange[0]} lies in the model's folder and was not registered with it; remove it."
        )
    for path, sha256 in wanted.items():
        if path not in found:
            raise LoadRefused(f"{path} is missing; restore the model's files from a backup.")
        if _hash(folder / path) != sha256:
            raise LoadRefused(
                f"{path} was changed since it was registered; restore it from a backup."
            )


def _list_files(folder: Path) -> set[str]:
    found = set()
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise LoadRefused(f"{name} is no plain file; a model's folder holds plain files only.")
        if path.is_file():
            found.add(name)
    return found


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
