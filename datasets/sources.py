"""Datasets that do not come with the request: they lie on this server, came in pieces, or are
fetched by the guarded way out from an address or the Hugging Face Hub. All are looked through
like an upload."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote

import orjson
from django.conf import settings
from django.contrib.auth.models import User

from datasets.models import DatasetVersion
from datasets.services import DatasetNotFound, add_file, register_path
from mlserver.lib import partial
from mlserver.lib.errors import FieldError, Invalid
from mlserver.lib.files import receive, require_space
from mlserver.lib.outgoing import OutgoingFailed, check_url, download, send

DOWNLOAD_SECONDS = 900
HUB_HOPS = 3
"""The Hub answers with where its storage has the file."""
MOST_LISTING_BYTES = 4 * 2**20
HUB_NAME = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?", re.ASCII)
DEFAULT_SPLIT = "train"


def register(*, owner: User, source: str, **values: Any) -> tuple[DatasetVersion, bool]:
    """`source` is one of SOURCES; the value of that name says which file is meant."""
    return SOURCES[source](owner=owner, **values)


def register_upload(
    *, owner: User, upload: str, name: str = "", target: str | None = None, description: str = ""
) -> tuple[DatasetVersion, bool]:
    """A file that came in pieces; removed here once it is a version."""
    found = partial.require_complete(partial.find(upload, owner.pk))

    def copy(path: Path) -> None:
        require_space(path.parent, found.size_bytes)
        receive(found.chunks(), path, max_bytes=settings.MAX_UPLOAD_SIZE)

    version, is_new = add_file(owner, name, found.filename, copy, target, description)
    partial.remove(found)
    return version, is_new


def register_url(
    *, owner: User, url: str, name: str = "", target: str | None = None, description: str = ""
) -> tuple[DatasetVersion, bool]:
    """A file of another server as a version; says whether it is new.

    Raises AddressRefused for an address that is not public, OutgoingFailed where it does not
    answer with the file.
    """
    original = _last_part(check_url(url).path)
    return add_file(owner, name, original, _fetcher(url, 0), target, description)


def register_hub(
    *,
    owner: User,
    hub: str,
    file: str = "",
    name: str = "",
    target: str | None = None,
    description: str = "",
) -> tuple[DatasetVersion, bool]:
    """A dataset of the Hub: the file that is named, else its `train` split as Parquet.

    https://huggingface.co/docs/hub/api and https://huggingface.co/docs/dataset-viewer/parquet
    """
    if settings.HF_HUB_OFFLINE:
        raise _wrong("hub", "this server does not ask the Hub (HF_HUB_OFFLINE); upload the file")
    if not HUB_NAME.fullmatch(hub) or ".." in hub:
        raise _wrong("hub", f"a dataset of the Hub is called owner/name, got {hub[:100]!r}")
    url = _file_url(hub, file) if file else _parquet_url(hub)
    original = PurePosixPath(file).name or f"{hub.rpartition('/')[2]}.parquet"
    return add_file(
        owner,
        name or hub.rpartition("/")[2],
        original,
        _fetcher(url, HUB_HOPS),
        target,
        description,
    )


SOURCES: dict[str, Callable[..., tuple[DatasetVersion, bool]]] = {
    "path": register_path,
    "upload": register_upload,
    "url": register_url,
    "hub": register_hub,
}


def _fetcher(url: str, hops: int) -> Callable[[Path], None]:
    def fetch(path: Path) -> None:
        with download(url, total_seconds=DOWNLOAD_SECONDS, most_hops=hops) as answer:
            require_space(path.parent, answer.size_bytes or 0)
            receive(answer.chunks, path, max_bytes=settings.MAX_UPLOAD_SIZE)

    return fetch


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


def _last_part(path: str) -> str:
    return unquote(PurePosixPath(path).name)


def _wrong(field: str, message: str) -> Invalid:
    return Invalid(f"{message}.", errors=[FieldError(field=field, message=message)])
