"""Datasets that do not come with the request: they lie on this server, came in pieces, or are
fetched by the guarded way out from an address or the Hugging Face Hub. All are looked through
like an upload; what takes long to fetch becomes a job (datasets.downloads)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote

import orjson
from django.conf import settings
from django.contrib.auth.models import User

from datasets.downloads import request_download
from datasets.models import DatasetVersion
from datasets.services import DatasetNotFound, add_file, register_path
from jobs.models import Job
from mlserver.lib import partial as pieces
from mlserver.lib.errors import FieldError, Invalid
from mlserver.lib.files import receive, require_space
from mlserver.lib.outgoing import OutgoingFailed, check_url, download, send

QUICK_SECONDS, QUICK_BYTES = 10.0, 32 * 2**20
"""What a request waits for; what is larger, slower, or does not say its size becomes a job."""
HUB_HOPS = 3
"""The Hub answers with where its storage has the file."""
MOST_LISTING_BYTES = 4 * 2**20
HUB_NAME = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?", re.ASCII)
DEFAULT_SPLIT = "train"


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A file of another server, and the dataset that it is to become; all JSON."""

    url: str
    hops: int
    original: str
    name: str
    target: str | None
    description: str


def register(*, owner: User, source: str, **values: Any) -> tuple[DatasetVersion, bool] | Job:
    """`source` is one of SOURCES; the value of that name says which file is meant.

    The version, and whether it is new; or the job that fetches it.
    """
    return SOURCES[source](owner=owner, **values)


def register_upload(
    *, owner: User, upload: str, name: str = "", target: str | None = None, description: str = ""
) -> tuple[DatasetVersion, bool]:
    """A file that came in pieces; removed here once it is a version."""
    found = pieces.require_complete(pieces.find(upload, owner.pk))

    def copy(path: Path) -> None:
        require_space(path.parent, found.size_bytes)
        receive(found.chunks(), path, max_bytes=settings.MAX_UPLOAD_SIZE)

    version, is_new = add_file(owner, name, found.filename, copy, target, description)
    pieces.remove(found)
    return version, is_new


def register_url(
    *, owner: User, url: str, name: str = "", target: str | None = None, description: str = ""
) -> tuple[DatasetVersion, bool] | Job:
    """A file of another server as a version.

    Raises AddressRefused for an address that is not public, OutgoingFailed where it does not
    answer with the file.
    """
    original = unquote(PurePosixPath(check_url(url).path).name)
    return _fetch(
        owner,
        Remote(
            url=url, hops=0, original=original, name=name, target=target, description=description
        ),
    )


def register_hub(
    *,
    owner: User,
    hub: str,
    file: str = "",
    name: str = "",
    target: str | None = None,
    description: str = "",
) -> tuple[DatasetVersion, bool] | Job:
    """A dataset of the Hub: the file that is named, else its `train` split as Parquet.

    https://huggingface.co/docs/hub/api and https://huggingface.co/docs/dataset-viewer/parquet
    """
    if settings.HF_HUB_OFFLINE:
        raise _wrong("hub", "this server does not ask the Hub (HF_HUB_OFFLINE); upload the file")
    if not HUB_NAME.fullmatch(hub) or ".." in hub:
        raise _wrong("hub", f"a dataset of the Hub is called owner/name, got {hub[:100]!r}")
    short = hub.rpartition("/")[2]
    return _fetch(
        owner,
        Remote(
            url=_file_url(hub, file) if file else _parquet_url(hub),
            hops=HUB_HOPS,
            original=PurePosixPath(file).name or f"{short}.parquet",
            name=name or short,
            target=target,
            description=description,
        ),
    )


SOURCES: dict[str, Callable[..., tuple[DatasetVersion, bool] | Job]] = {
    "path": register_path,
    "upload": register_upload,
    "url": register_url,
    "hub": register_hub,
}


class _TakesLong(Exception):
    """Longer than a request should wait."""


def _fetch(owner: User, remote: Remote) -> tuple[DatasetVersion, bool] | Job:
    """At once what is quick, else by a job."""
    write = partial(_fetch_quickly, remote)
    try:
        return add_file(
            owner, remote.name, remote.original, write, remote.target, remote.description
        )
    except _TakesLong:
        return request_download(owner, **asdict(remote))


def _fetch_quickly(remote: Remote, path: Path) -> None:
    ends_at = time.monotonic() + QUICK_SECONDS
    try:
        with download(remote.url, total_seconds=QUICK_SECONDS, most_hops=remote.hops) as answer:
            if answer.size_bytes is None or answer.size_bytes > QUICK_BYTES:
                raise _TakesLong
            require_space(path.parent, answer.size_bytes)
            receive(answer.chunks, path, max_bytes=settings.MAX_UPLOAD_SIZE)
    except OutgoingFailed:
        if time.monotonic() >= ends_at:
            raise _TakesLong from None
        raise


def _file_url(hub: str, file: str) -> str:
    return f"{settings.HF_ENDPOINT}/datasets/{hub}/resolve/main/{quote(file)}"


def _parquet_url(hub: str) -> str:
    """Of the one file that the Hub made of the default configuration's train split."""
    splits = _list_parquet(hub)
    files = splits.get(DEFAULT_SPLIT) or next(iter(splits.values()), [])
    if len(files) == 1:
        return files[0]
    shown = ", ".join(f"{split}: {len(urls)} files" for split, urls in list(splits.items())[:10])
    raise _wrong(
        "file", f"{hub} comes in parts ({shown}); name one `file` of it, such as data/train.csv"
    )


def _list_parquet(hub: str) -> dict[str, list[str]]:
    """The files of each split of the default configuration, or of the first there is."""
    reply = send(
        "GET",
        f"{settings.HF_ENDPOINT}/api/datasets/{hub}/parquet",
        most_bytes=MOST_LISTING_BYTES,
        total_seconds=30,
    )
    if reply.status in (401, 404):
        message = f"the Hub has no public dataset {hub!r} that it can convert"
        raise DatasetNotFound(
            f"Dataset not found: {message}.",
            errors=[FieldError(field="hub", message=message, value=hub)],
        )
    try:
        listing = orjson.loads(reply.body)
        splits: dict[str, list[str]] = listing.get("default") or next(iter(listing.values()))
        return {split: [str(url) for url in urls] for split, urls in splits.items()}
    except (orjson.JSONDecodeError, AttributeError, TypeError, StopIteration) as error:
        raise OutgoingFailed(
            f"The Hub answered with status {reply.status} instead of a list of files; try again."
        ) from error


def _wrong(field: str, message: str) -> Invalid:
    return Invalid(f"{message}.", errors=[FieldError(field=field, message=message)])
