"""Deleting into the trash and taking back: nothing is lost, nothing is overwritten."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.utils import timezone
from pytest_django import Settings

from datasets.models import Dataset, DatasetVersion
from datasets.removal import (
    delete_dataset,
    empty_trash,
    list_deleted,
    restore_dataset,
)
from datasets.services import DatasetInUse, DatasetNotFound, import_upload, read_preview
from mlserver.lib import trash
from mlserver.lib.errors import Conflict, Forbidden, Invalid
from tests import factories
from tests.datasets.test_api import client

CSV = b"a,label\n1,x\n2,y\n3,x\n"
URL = "/api/v1/datasets/"


def take(owner: User, content: bytes = CSV, name: str = "table") -> DatasetVersion:
    return import_upload(owner=owner, name=name, upload=ContentFile(content, name="t.csv"))


def columns(version: DatasetVersion) -> dict[str, Any]:
    """Everything that the row holds."""
    return {field.attname: getattr(version, field.attname) for field in version._meta.fields}


def files(settings: Settings, name: str) -> list[Path]:
    return [path for path in Path(getattr(settings, name)).rglob("*") if path.is_file()]


def test_what_was_deleted_comes_back_as_it_was(owner: User, settings: Settings) -> None:
    take(owner)
    second = take(owner, CSV + b"4,y\n")
    before = [columns(each) for each in second.dataset.versions.all()]
    delete_dataset(second.dataset, owner)
    assert not Dataset.objects.exists()
    assert files(settings, "DATASETS_DIR") == []

    dataset = restore_dataset("table", owner)

    assert [columns(each) for each in dataset.versions.all()] == before
    assert (second.folder / "data.csv").read_bytes() == CSV + b"4,y\n"
    assert read_preview(second, 1, 1)["rows"] == [[1, "x"]]
    assert files(settings, "TRASH_DIR") == []
    assert take(owner, CSV + b"5,y\n").number == 3


def test_the_manifest_says_what_lies_there(owner: User) -> None:
    delete_dataset(take(owner).dataset, owner)
    (entry,) = list_deleted()

    assert (entry.label, entry.deleted_by) == ("table, 1 version", "owner")
    assert entry.size_bytes > len(CSV)
    assert entry.kept_until - entry.deleted_at == timedelta(days=7)


def test_a_name_that_is_taken_again_stays_with_its_new_owner(owner: User, teammate: User) -> None:
    old = take(owner)
    delete_dataset(old.dataset, owner)
    new = take(teammate)

    with pytest.raises(Conflict, match="restore under another name"):
        restore_dataset("table", owner)
    dataset = restore_dataset("table", owner, new_name="table-old")

    assert dataset.owner == owner
    restored = dataset.latest
    assert restored is not None
    assert restored.folder != new.folder
    assert (restored.folder / "data.csv").is_file()
    assert (new.folder / "data.csv").is_file()


def test_the_one_that_was_deleted_last_comes_first(owner: User) -> None:
    delete_dataset(take(owner).dataset, owner)
    delete_dataset(take(owner, CSV + b"4,y\n").dataset, owner)

    assert len(list_deleted()) == 2
    newest = restore_dataset("table", owner).latest
    assert newest is not None
    assert newest.sample_count == 4


@pytest.mark.parametrize("who", ["teammate", "stranger"])
def test_only_the_owner_or_an_admin_takes_back(
    owner: User, admin: User, request: pytest.FixtureRequest, who: str
) -> None:
    delete_dataset(take(owner).dataset, owner)

    with pytest.raises(Forbidden):
        restore_dataset("table", request.getfixturevalue(who))
    assert restore_dataset("table", admin).owner == owner


def test_an_owner_who_has_left_is_no_obstacle(admin: User) -> None:
    leaver = factories.user("leaver")
    delete_dataset(take(leaver).dataset, leaver)
    leaver.delete()

    assert restore_dataset("table", admin).owner is None


def test_what_is_not_in_the_trash_cannot_come_back(owner: User) -> None:
    with pytest.raises(DatasetNotFound):
        restore_dataset("table", owner)
    for name in ("*", "../models/x", "a b"):
        with pytest.raises(Invalid):
            restore_dataset(name, owner)


def test_a_refused_deletion_leaves_no_entry(owner: User, settings: Settings) -> None:
    version = take(owner)
    factories.session(dataset_version=version)

    with pytest.raises(DatasetInUse):
        delete_dataset(version.dataset, owner)
    assert list_deleted() == []
    assert (version.folder / "data.csv").is_file()


def test_what_a_killed_server_left_in_place_comes_back_too(
    owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = take(owner)
    with monkeypatch.context() as patch:
        patch.setattr(trash.Entry, "fill", lambda entry: None)  # killed after the commit
        delete_dataset(version.dataset, owner)

    restored = restore_dataset("table", owner).latest
    assert restored is not None
    assert restored.folder == version.folder
    assert (version.folder / "data.csv").is_file()


def test_after_a_week_it_is_gone(owner: User, settings: Settings) -> None:
    delete_dataset(take(owner).dataset, owner)
    assert empty_trash() == 0

    settings.TRASH_DAYS = 0
    assert empty_trash() == 1
    assert files(settings, "TRASH_DIR") == []


def test_the_api_deletes_and_restores(owner: User, stranger: User) -> None:
    take(owner)
    assert client(owner).delete(f"{URL}table").status_code == 204
    assert client(stranger).post(f"{URL}table/restore").status_code == 403

    answer = client(owner).post(f"{URL}table/restore", {"name": "again"}, format="json")
    assert (answer.status_code, answer.json()["name"]) == (200, "again")
    assert client(owner).post(f"{URL}table/restore").status_code == 404
    wrong = client(owner).post(f"{URL}again/restore", {"nmae": "x"}, format="json")
    assert wrong.json()["errors"][0]["field"] == "nmae"


def test_a_404_says_that_it_lies_in_the_trash(owner: User) -> None:
    delete_dataset(take(owner).dataset, owner)

    body = client(owner).get(f"{URL}table/preview").json()
    assert "deleted" in body["detail"]
    assert "POST /api/v1/datasets/table/restore" in body["detail"]


def test_deleted_at_is_now(owner: User) -> None:
    entry = delete_dataset(take(owner).dataset, owner)
    assert abs(timezone.now() - entry.deleted_at) < timedelta(minutes=1)
