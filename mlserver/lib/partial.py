"""Uploads in pieces, which go on where they broke off: a file that grows, with a note beside it.

No rows: what is not finished within a day is garbage. Pieces are appended at the offset that the
sender names, so that a piece sent twice changes nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from mlserver.lib.errors import Conflict, Invalid, NotFound, TooLarge
from mlserver.lib.files import read_chunks, require_space
from mlserver.lib.ids import make_id

ID = re.compile(r"upload_[a-z0-9_]{1,60}")
KEPT_SECONDS = 24 * 3600
PIECE_BYTES = 8 * 2**20
"""What one request may bring: below the limit of bodies that are no forms."""


@dataclass(frozen=True, kw_only=True)
class PartialUpload:
    id: str
    owner_id: int
    filename: str
    size_bytes: int

    @property
    def folder(self) -> Path:
        return _root() / self.id

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def offset(self) -> int:
        """How many bytes are here."""
        return self.data.stat().st_size

    @property
    def is_complete(self) -> bool:
        return self.offset == self.size_bytes

    def chunks(self) -> Iterator[bytes]:
        return read_chunks(self.data)


def begin(owner_id: int, filename: str, size_bytes: int) -> PartialUpload:
    """Room for a file that will come in pieces. Raises TooLarge or NoSpace."""
    _remove_old()
    if size_bytes > settings.MAX_UPLOAD_SIZE:
        raise TooLarge(
            f"The upload has {size_bytes:,} bytes; the limit here is {settings.MAX_UPLOAD_SIZE:,}."
        )
    _root().mkdir(exist_ok=True)
    require_space(_root(), size_bytes)
    upload = PartialUpload(
        id=make_id("upload", timezone.now()),
        owner_id=owner_id,
        filename=filename,
        size_bytes=size_bytes,
    )
    upload.folder.mkdir()
    upload.data.touch()
    (upload.folder / "upload.json").write_text(json.dumps(asdict(upload)))
    return upload


def find(upload_id: str, owner_id: int) -> PartialUpload:
    """The upload of that person; somebody else's is as good as none."""
    try:
        if not ID.fullmatch(upload_id):
            raise FileNotFoundError
        note = (_root() / upload_id / "upload.json").read_text()
    except FileNotFoundError:
        note = "{}"
    found = json.loads(note)
    if found.get("owner_id") != owner_id:
        raise NotFound(
            f"There is no upload {upload_id[:100]!r} of yours; what is not finished within a day"
            " is removed. Begin again: POST /api/v1/uploads/."
        )
    return PartialUpload(**found)


def append(upload: PartialUpload, offset: int, piece: bytes) -> int:
    """Write a piece at its offset, durably; returns the new offset. Raises Conflict where the
    offset is not the end of what is here, which the sentence tells."""
    require_space(upload.folder, len(piece))
    with upload.data.open("r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # two senders of one piece
        size = os.fstat(stream.fileno()).st_size
        if offset != size:
            raise Conflict(
                f"{size} bytes of {upload.id} are here; go on at that offset, not at {offset}.",
                code="wrong_offset",
            )
        if size + len(piece) > upload.size_bytes:
            raise Invalid(
                f"{upload.id} was announced with {upload.size_bytes:,} bytes;"
                f" with this piece it would have {size + len(piece):,}.",
                code="too_long",
            )
        stream.seek(size)
        stream.write(piece)
        stream.flush()
        os.fsync(stream.fileno())
    return size + len(piece)


def require_complete(upload: PartialUpload) -> PartialUpload:
    if upload.is_complete:
        return upload
    raise Conflict(
        f"{upload.offset:,} of {upload.size_bytes:,} bytes of {upload.id} are here; send the rest"
        f" first: PATCH /api/v1/uploads/{upload.id}.",
        code="incomplete",
    )


def remove(upload: PartialUpload) -> None:
    shutil.rmtree(upload.folder, ignore_errors=True)


def _root() -> Path:
    return Path(settings.FILE_UPLOAD_TEMP_DIR) / "partial"


def _remove_old() -> None:
    limit = time.time() - KEPT_SECONDS
    for folder in _root().glob("upload_*"):
        data = folder / "data"
        if (data if data.exists() else folder).stat().st_mtime < limit:
            shutil.rmtree(folder, ignore_errors=True)
