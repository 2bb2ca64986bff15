"""What was deleted, kept for some days: folders moved aside, with a manifest to bring them back.

Knows nothing of rows: an app writes what it needs to know again as `facts`.
"""

from __future__ import annotations

import errno
import glob
import json
import logging
import shutil
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings

from mlserver.lib.files import remove_folder, sync

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
DAY_SECONDS = 24 * 3600


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing that was deleted. `folders`: its key in the entry → where it lay."""

    path: Path
    kind: str
    name: str
    label: str
    owner_id: int | None
    deleted_by: str
    deleted_at: datetime
    facts: Any
    folders: dict[str, str]

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def kept_until(self) -> datetime:
        return self.deleted_at + timedelta(days=settings.TRASH_DAYS)

    @property
    def size_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())

    @property
    def way_back(self) -> str:
        """The end of a sentence about a thing that is not there any more."""
        return (
            f"was deleted by {self.deleted_by}; POST /api/v1/{self.kind}/{self.name}/restore"
            f" takes it back until {self.kept_until:%Y-%m-%d}."
        )

    def fill(self) -> None:
        """Move the folders in. One that is gone from the disk already is nobody's loss."""
        for key, original in self.folders.items():
            if Path(original).is_dir():
                move_folder(Path(original), self.path / key)

    def take_back(self, key: str, target: Path) -> None:
        """Move a folder to where it shall lie; it may have stayed in place if a process died."""
        for source in (self.path / key, Path(self.folders[key])):
            if source.is_dir():
                if source != target:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    move_folder(source, target)
                return
        logger.warning("%s: the folder %s is gone", self.id, key)

    def forget(self) -> None:
        remove_folder(self.path)


def open_entry(
    kind: str,
    name: str,
    *,
    label: str,
    owner_id: int | None,
    by: str,
    facts: Any,
    folders: Mapping[str, Path],
) -> Entry:
    """Write the manifest, durably and before anything is deleted; `fill` follows the commit."""
    now = datetime.now(UTC)
    path = settings.TRASH_DIR / kind / f"{name}~{now:%Y%m%d%H%M%S}{uuid.uuid4().hex[:8]}"
    manifest = {
        "name": name,
        "label": label,
        "owner_id": owner_id,
        "deleted_by": by,
        "deleted_at": now.isoformat(),
        "facts": facts,
        "folders": {key: str(folder) for key, folder in folders.items()},
    }
    path.mkdir(parents=True)
    (path / MANIFEST).write_text(json.dumps(manifest))
    for each in (path / MANIFEST, path, path.parent):
        sync(each)
    return _read(path)


def list_entries(kind: str, name: str | None = None) -> list[Entry]:
    """The newest first; no name holds a `~`, so a pattern finds only its own."""
    if name is not None and "/" in name:
        return []
    pattern = "*" if name is None else f"{glob.escape(name)}~*"
    paths = (settings.TRASH_DIR / kind).glob(f"{pattern}/{MANIFEST}")
    entries = [_read(path.parent) for path in paths]
    return sorted(entries, key=lambda entry: entry.deleted_at, reverse=True)


def find_entry(kind: str, name: str, entry_id: str | None = None) -> Entry | None:
    """What was deleted last under that name, or the one entry that is meant."""
    entries = list_entries(kind, name)
    return next((each for each in entries if entry_id in (None, each.id)), None)


def empty_trash(kind: str, days: float | None = None) -> int:
    """Remove for good what was deleted longer ago than that; returns how much."""
    limit = time.time() - DAY_SECONDS * (settings.TRASH_DAYS if days is None else days)
    old = [each for each in list_entries(kind) if each.deleted_at.timestamp() < limit]
    for entry in old:
        entry.forget()
    return len(old)


def move_folder(source: Path, target: Path) -> None:
    """A rename; a copy where the trash lies on another volume, complete before it has its name."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        partial = target.with_name(f".{target.name}.partial")
        shutil.copytree(source, partial)
        partial.rename(target)
        shutil.rmtree(source)
    _sync_all((source.parent, target.parent))


def _sync_all(folders: Iterable[Path]) -> None:
    for folder in folders:
        sync(folder)


def _read(path: Path) -> Entry:
    manifest = json.loads((path / MANIFEST).read_text())
    deleted_at = datetime.fromisoformat(manifest.pop("deleted_at"))
    return Entry(path=path, kind=path.parent.name, deleted_at=deleted_at, **manifest)
