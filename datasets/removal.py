"""Deletes datasets into the trash, and takes them back: rows and folders together."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from accounts import audit
from datasets.access import require_change
from datasets.models import Dataset, DatasetVersion
from datasets.names import check_name
from datasets.services import TRASH, DatasetInUse, DatasetNotFound, free_path
from mlserver.api.permissions import may_change
from mlserver.lib import trash
from mlserver.lib.errors import Conflict, FieldError, Forbidden
from mlserver.lib.locks import exclusive
from mlserver.lib.rows import forget_lost_people, read_rows, write_rows


def delete_dataset(dataset: Dataset, by: User) -> trash.Entry:
    """All versions with their files, unless something was or is being learned from one."""
    require_change(by, dataset)
    versions = list(dataset.versions.order_by("number"))
    entry = trash.open_entry(
        TRASH,
        dataset.name,
        label=_label(dataset, versions),
        owner_id=dataset.owner_id,
        by=by.username,
        facts=write_rows([dataset, *versions]),
        folders={str(version.pk): version.folder for version in versions},
    )
    try:
        with transaction.atomic():
            audit.record(by, "dataset.delete", dataset, before={"versions": len(versions)})
            dataset.delete()
    except ProtectedError as error:
        entry.forget()
        raise DatasetInUse(_in_use(dataset, error)) from None
    except IntegrityError:
        entry.forget()
        raise DatasetInUse(f"A session has just begun to use {dataset.name}.") from None
    # After the commit: a refusal must leave the files where they are.
    entry.fill()
    return entry


def restore_dataset(
    name: str, by: User, *, new_name: str = "", entry_id: str | None = None
) -> Dataset:
    """Take back what was deleted last under that name, with its versions and their numbers."""
    with exclusive("dataset-trash"):
        entry = _find_entry(name, entry_id)
        if not may_change(by, entry.owner_id):
            raise Forbidden(f"Only the owner of {name} or an admin takes it back.")
        wanted = check_name(new_name or name)
        if Dataset.objects.filter(name=wanted).exists():
            message = f"there is a dataset called {wanted} now; restore under another name"
            raise Conflict(
                f"{message[0].upper()}{message[1:]}.",
                errors=[FieldError(field="name", message=message, value=wanted)],
            )
        dataset = _bring_back(entry, wanted)
        audit.record(by, "dataset.restore", dataset, after={"from": entry.label})
    entry.forget()
    return dataset


def _bring_back(entry: trash.Entry, name: str) -> Dataset:
    """Rows first, each with the id it had, so that whatever names it is right again."""
    dataset, *versions = read_rows(entry.facts)
    assert isinstance(dataset, Dataset)
    dataset.name = name
    forget_lost_people(dataset, "owner_id")
    dataset.save(force_insert=True)
    for version in versions:
        assert isinstance(version, DatasetVersion)
        forget_lost_people(version, "created_by_id")
        version.file_path = _path(entry, version)
        version.save(force_insert=True)
        entry.take_back(str(version.pk), version.folder)
    return dataset


def _path(entry: trash.Entry, version: DatasetVersion) -> str:
    """Where it lay, for run directories name that; elsewhere if something else lies there."""
    is_still_there = not (entry.path / str(version.pk)).is_dir()
    is_free = not version.folder.exists() or is_still_there
    return version.file_path if is_free else free_path(entry.name, version.number)


def list_deleted() -> list[trash.Entry]:
    return trash.list_entries(TRASH)


def empty_trash() -> int:
    return trash.empty_trash(TRASH)


def _find_entry(name: str, entry_id: str | None) -> trash.Entry:
    entry = trash.find_entry(TRASH, check_name(name), entry_id)
    if entry is None:
        raise DatasetNotFound(f"No dataset called {name} lies in the trash.")
    return entry


def _label(dataset: Dataset, versions: list[DatasetVersion]) -> str:
    noun = "version" if len(versions) == 1 else "versions"
    return f"{dataset.name}, {len(versions)} {noun}"


def _in_use(dataset: Dataset, error: ProtectedError) -> str:
    users = sorted(str(each) for each in error.protected_objects)
    listed = ", ".join(users[:3]) + (f" and {len(users) - 3} more" if len(users) > 3 else "")
    return f"{dataset.name} cannot be deleted: {listed} learned from it. Delete that first."
