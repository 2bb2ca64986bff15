"""What a person or a session may ask of the datasets: take in, find, look at, change.

A file becomes a version in three steps: it lies in an incoming folder, a child reads it
there, and one transaction makes the rows and renames the folder into place.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path, PurePath
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.files.base import File
from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone

from accounts import audit
from datasets.access import require_change
from datasets.models import Dataset, DatasetVersion
from datasets.names import (
    check_name,
    name_from_filename,
    not_found_sentence,
    read_reference,
)
from datasets.statistics import KIND, MISSING, find_statistics, request_statistics
from jobs.models import Job, State
from ml.storable import storable
from mlserver.lib import trash
from mlserver.lib.batches import delete_in_batches
from mlserver.lib.children import run_ml
from mlserver.lib.errors import Conflict, FieldError, Invalid, NotFound
from mlserver.lib.files import (
    find_inside,
    incoming_folder,
    move_into_place,
    read_chunks,
    receive,
    remove_old_incoming,
    require_space,
)

BUILTIN_NAMES = ("digits", "digits28", "iris", "wine", "breast_cancer", "diabetes")
IMPORT_SECONDS = 1800
PREVIEW_SECONDS = 60
MAX_PAGE_SIZE = 1000
UPLOAD = "upload"
DOWNLOAD = "dataset_download"
"""The kind of job that datasets.downloads works on."""
TRASH = "datasets"
KEPT_IN_SCHEMA = ("file", "columns", "target", "classes", "warnings")


class DatasetNotFound(NotFound):
    code = "dataset_not_found"


class DatasetInUse(Conflict):
    code = "dataset_in_use"


# --- Taking in --------------------------------------------------------------------------


def import_upload(
    *,
    owner: User,
    name: str,
    upload: File[bytes],
    filename: str | None = None,
    target: str | None = None,
    description: str = "",
) -> DatasetVersion:
    """What was uploaded as a version of `name`: a new one, or the one that is the same."""
    return add_upload(
        owner=owner,
        name=name,
        upload=upload,
        filename=filename,
        target=target,
        description=description,
    )[0]


def add_upload(
    *,
    owner: User,
    name: str,
    upload: File[bytes],
    filename: str | None = None,
    target: str | None = None,
    description: str = "",
) -> tuple[DatasetVersion, bool]:
    """Like import_upload; also says whether the version is new."""
    original = filename or upload.name or ""

    def write(path: Path) -> None:
        require_space(path.parent, upload.size or 0)
        receive(upload.chunks(), path, max_bytes=settings.MAX_UPLOAD_SIZE)

    return add_file(owner, name, original, write, target, description)


def register_path(
    *,
    owner: User,
    path: str,
    name: str = "",
    target: str | None = None,
    description: str = "",
) -> tuple[DatasetVersion, bool]:
    """A copy of a file under DATASETS_DIR as a version; says whether it is new."""
    source = find_inside(settings.DATASETS_DIR, path) or find_inside(
        settings.DATASETS_DIR, path.removeprefix("data/")
    )
    if source is None:
        message = f"there is no file {path[:200]!r} inside the datasets directory"
        raise DatasetNotFound(
            f"Dataset not found: {message}.",
            errors=[FieldError(field="path", message=message, value=path[:200])],
        )

    def copy(target_path: Path) -> None:
        require_space(target_path.parent, source.stat().st_size)
        receive(read_chunks(source), target_path, max_bytes=settings.MAX_UPLOAD_SIZE)

    return add_file(owner, name, source.name, copy, target, description)


def register_builtin(name: str, owner: User | None = None) -> DatasetVersion:
    """A dataset that needs no network; made once."""
    if name not in BUILTIN_NAMES:
        raise DatasetNotFound(not_found_sentence(name, BUILTIN_NAMES))
    found = Dataset.objects.filter(name=name).first()
    if found is not None and not found.is_builtin:
        raise Conflict(f"{name} is the name of somebody's own dataset; rename that one first.")
    return _make_builtins([name], owner)[0] if found is None else find_version(name)


def seed_builtins() -> list[DatasetVersion]:
    """Make the built-in datasets that are not there; a name that a person took is left alone."""
    taken = set(Dataset.objects.filter(name__in=BUILTIN_NAMES).values_list("name", flat=True))
    missing = [name for name in BUILTIN_NAMES if name not in taken]
    return _make_builtins(missing, None) if missing else []


def _make_builtins(names: list[str], owner: User | None) -> list[DatasetVersion]:
    with ExitStack() as stack:
        folders = {
            name: stack.enter_context(incoming_folder(settings.DATASETS_DIR)) for name in names
        }
        made = run_ml("builtin_datasets", {"folders": {name: str(folders[name]) for name in names}})
        return [publish_builtin(name, folders[name], made[name], owner) for name in names]


def publish_builtin(
    name: str, folder: Path, made: dict[str, Any], owner: User | None
) -> DatasetVersion:
    """Give a folder that a child made its place; `made` holds its schema and description."""
    schema = made["schema"]
    dataset = Dataset(name=name, description=made["description"], owner=owner, is_builtin=True)
    return publish(folder, schema, dataset, owner, f"{name}.{schema['format']}")[0]


def add_file(
    owner: User,
    name: str,
    original: str,
    write: Callable[[Path], None],
    target: str | None,
    description: str,
) -> tuple[DatasetVersion, bool]:
    """What `write` puts into the path it is given, as a version; says whether it is new."""
    clean = check_new(owner, name, original)
    with incoming_folder(settings.DATASETS_DIR) as folder:
        write(folder / UPLOAD)
        payload = reading_payload(folder, original, target)
        schema = run_ml("import_dataset", payload, timeout_seconds=IMPORT_SECONDS)
        dataset = Dataset(name=clean, description=description, owner=owner)
        return publish(folder, schema, dataset, owner, original)


def check_new(owner: User, name: str, original: str) -> str:
    """The name of the dataset, before anything is written: a fit one, and theirs to change."""
    clean = check_name(name or name_from_filename(original))
    if existing := Dataset.objects.select_related("owner").filter(name=clean).first():
        require_change(owner, existing)  # and again at the end
    return clean


def reading_payload(folder: Path, original: str, target: str | None) -> dict[str, Any]:
    """For the verb that reads the file UPLOAD of the folder, and writes there what it found."""
    return {
        "folder": str(folder),
        "file": UPLOAD,
        "format": PurePath(original).suffix.lower().removeprefix(".") or None,
        "target": target or None,
    }


@transaction.atomic
def publish(
    folder: Path, schema: dict[str, Any], wanted: Dataset, by: User | None, original: str
) -> tuple[DatasetVersion, bool]:
    """Rows and folder together: the rename is the last step before the commit.

    Should the commit fail, a folder without a row is left; it is in nobody's way.
    """
    dataset = _dataset_for(wanted, by)
    for version in dataset.versions.filter(sha256=schema["sha256"]):
        if version.schema.get("target") == schema["target"]:
            return version, False
    number = (dataset.versions.aggregate(last=Max("number"))["last"] or 0) + 1
    version = DatasetVersion.objects.create(
        dataset=dataset,
        number=number,
        format=schema["format"],
        kind=schema["kind"],
        sample_count=schema["sample_count"],
        dimensions=schema["dimensions"],
        size_bytes=schema["size_bytes"],
        schema={key: schema[key] for key in KEPT_IN_SCHEMA},
        splits=schema.get("splits", {}),
        sha256=schema["sha256"],
        file_path=free_path(dataset.name, number),
        original_filename=storable(original[:255]),
        created_by=by,
    )
    request_statistics(version, by)
    facts = {"sha256": version.sha256, "size_bytes": version.size_bytes}
    audit.record(by, "dataset.upload", version, after=facts)
    move_into_place(folder, version.folder)
    return version, True


def _dataset_for(wanted: Dataset, by: User | None) -> Dataset:
    """The dataset of that name, locked, so that two uploads get two numbers."""
    defaults = {
        "description": wanted.description,
        "owner": wanted.owner,
        "is_builtin": wanted.is_builtin,
    }
    dataset, is_new = Dataset.objects.select_for_update().get_or_create(
        name=wanted.name, defaults=defaults
    )
    if not is_new and by is not None:
        require_change(by, dataset)
    return dataset


def free_path(name: str, number: int) -> str:
    """`iris/v1`, unless that folder is there or has been promised.

    A dataset that was renamed keeps its folders, and one that is being deleted has its own
    for a moment longer than its row: neither may be written over.
    """
    names = itertools.chain([name], (f"{name}~{count}" for count in itertools.count(2)))
    return next(path for each in names if _is_free(path := f"{each}/v{number}"))


def _is_free(path: str) -> bool:
    is_promised = DatasetVersion.objects.filter(file_path=path).exists()
    return not is_promised and not (settings.DATASETS_DIR / path).exists()


# --- Finding and looking ----------------------------------------------------------------


def find_version(reference: str) -> DatasetVersion:
    """The version that `iris` (the newest), `iris@2` or `iris/v2` means."""
    name, number = read_reference(reference.strip())
    versions = find_dataset(name).versions.select_related("dataset__owner")
    version = versions.filter(number=number).first() if number else versions.first()
    if version is None:
        newest = versions.values_list("number", flat=True).first()
        raise DatasetNotFound(
            f"Dataset not found: {name} has no version {number}; the newest is {newest}."
        )
    return version


def find_dataset(name: str) -> Dataset:
    rows = Dataset.objects.select_related("owner")
    # PostgreSQL answers a NUL with an exception.
    if "\x00" not in name and (dataset := rows.filter(name=name).first()):
        return dataset
    if deleted := trash.find_entry(TRASH, name):
        raise DatasetNotFound(f"Dataset not found: {name} {deleted.way_back}")
    known = Dataset.objects.values_list("name", flat=True)
    raise DatasetNotFound(not_found_sentence(name, known))


def read_preview(version: DatasetVersion, page: int, page_size: int) -> dict[str, Any]:
    """One page of rows: {columns, types, rows, total, columns_total}; pages count from 1."""
    _check_page(page, page_size)
    offset = (page - 1) * page_size
    preview = _stored_preview(version)
    end = min(offset + page_size, preview["total"])
    if end <= len(preview["rows"]) or offset >= preview["total"]:
        return {**preview, "rows": preview["rows"][offset : max(offset, end)]}
    payload = {"folder": str(version.folder), "offset": offset, "limit": page_size}
    result: dict[str, Any] = run_ml("preview", payload, timeout_seconds=PREVIEW_SECONDS)
    return result


def _stored_preview(version: DatasetVersion) -> dict[str, Any]:
    try:
        preview: dict[str, Any] = json.loads((version.folder / "preview.json").read_text())
    except FileNotFoundError:
        raise DatasetNotFound(f"The files of {version} are gone from the disk.") from None
    return preview


def _check_page(page: int, page_size: int) -> None:
    if page < 1:
        raise _wrong("page", f"page must be at least 1, got {page}", page)
    if not 1 <= page_size <= MAX_PAGE_SIZE:
        message = f"page_size must be between 1 and {MAX_PAGE_SIZE}, got {page_size}"
        raise _wrong("page_size", message, page_size)


def _wrong(field: str, message: str, value: Any) -> Invalid:
    return Invalid(f"{message}.", errors=[FieldError(field=field, message=message, value=value)])


def data_file(version: DatasetVersion) -> Path:
    """The file as it was uploaded, under the name it has on disk."""
    path = version.folder / f"data.{version.format}"
    if not path.is_file():
        raise DatasetNotFound(f"The files of {version} are gone from the disk.")
    return path


# --- Changing and tidying ---------------------------------------------------------------


def change_dataset(
    dataset: Dataset, by: User, *, name: str | None = None, description: str | None = None
) -> Dataset:
    """Rename or describe. The folders stay, because run directories name them."""
    require_change(by, dataset)
    before = {"name": dataset.name, "description": dataset.description}
    if name is not None:
        dataset.name = check_name(name)
    if description is not None:
        dataset.description = description
    try:
        with transaction.atomic():
            dataset.save(update_fields=["name", "description"])
            after = {"name": dataset.name, "description": dataset.description}
            audit.record(by, "dataset.change", dataset, **audit.differences(before, after))
    except IntegrityError:
        message = f"there already is a dataset called {name}"
        raise Conflict(
            f"{message[0].upper()}{message[1:]}.",
            errors=[FieldError(field="name", message=message, value=name)],
        ) from None
    return dataset


def request_missing_statistics() -> int:
    """For versions that were taken in before there were any; returns how many."""
    lacking = DatasetVersion.objects.filter(statistics={}).select_related("dataset")
    untried = [each for each in lacking if find_statistics(each).state == MISSING]
    for version in untried:
        request_statistics(version, version.created_by)
    return len(untried)


def remove_leftovers(older_than_seconds: float = 24 * 3600) -> int:
    """Remove what uploads left that were killed in the middle; returns how many."""
    return remove_old_incoming(settings.DATASETS_DIR, older_than_seconds)


def forget_old_jobs() -> int:
    """Of statistics and files that are there, after JOB_RETENTION_HOURS (0 keeps all); how many.

    A job that failed stays: it says why there are none.
    """
    if not settings.JOB_RETENTION_HOURS:
        return 0
    oldest = timezone.now() - timedelta(hours=settings.JOB_RETENTION_HOURS)
    done = Job.objects.filter(kind__in=(KIND, DOWNLOAD), finished_at__lt=oldest)
    return delete_in_batches(done.exclude(state=State.FAILED))
