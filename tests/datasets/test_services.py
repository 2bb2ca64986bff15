"""Taking datasets in, finding, previewing, changing and deleting them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from pytest_django import Settings

from datasets import services
from datasets.models import Dataset, DatasetVersion
from datasets.removal import delete_dataset
from datasets.services import (
    BUILTIN_NAMES,
    DatasetInUse,
    DatasetNotFound,
    change_dataset,
    find_version,
    import_upload,
    read_preview,
    register_builtin,
    register_path,
    seed_builtins,
)
from mlserver.lib import trash
from mlserver.lib.children import run_ml
from mlserver.lib.errors import AppError, Conflict, Forbidden, Invalid, NoSpace, TooLarge
from tests import factories

CSV = b"a,label\n1,x\n2,y\n3,x\n"


def upload(content: bytes = CSV, name: str = "table.csv") -> "ContentFile[bytes]":
    return ContentFile(content, name=name)


def take(owner: User, content: bytes = CSV, name: str = "table", **options: Any) -> DatasetVersion:
    return import_upload(owner=owner, name=name, upload=upload(content), **options)


def leftovers(settings: Settings) -> list[Path]:
    return [path for path in Path(settings.DATASETS_DIR).rglob("*") if path.is_file()]


def test_an_upload_becomes_a_version_with_everything_known(owner: User) -> None:
    version = take(owner, description="a small one")

    assert str(version) == "table@1"
    assert (version.format, version.kind, version.sample_count) == ("csv", "table", 3)
    assert version.dimensions == [3, 2]
    assert version.size_bytes == len(CSV)
    assert (version.schema["target"], version.schema["classes"]) == ("label", ["x", "y"])
    assert version.dataset.owner == owner
    assert version.dataset.description == "a small one"
    assert sorted(path.name for path in version.folder.iterdir()) == [
        "data.csv",
        "preview.json",
        "rows.arrow",
        "schema.json",
    ]
    assert (version.folder / "data.csv").read_bytes() == CSV


def test_the_format_follows_the_content_and_the_file_has_no_name_of_the_clients(
    owner: User,
) -> None:
    stream = io.BytesIO()
    np.savez(stream, x=np.zeros((4, 3, 3)), y=np.arange(4))
    version = import_upload(
        owner=owner, name="pictures", upload=upload(stream.getvalue(), "../../evil.csv")
    )

    assert (version.format, version.kind) == ("npz", "image")
    assert (version.folder / "data.npz").is_file()


def test_a_name_is_taken_from_the_file_when_none_is_given(owner: User) -> None:
    version = import_upload(owner=owner, name="", upload=upload(name="My table.csv"))

    assert version.dataset.name == "My-table"


def test_a_second_upload_under_a_name_is_its_next_version(owner: User) -> None:
    take(owner)
    second = take(owner, CSV + b"4,y\n")

    assert str(second) == "table@2"
    assert second.folder.name == "v2"


def test_the_same_file_again_is_the_same_version(owner: User, settings: Settings) -> None:
    first = take(owner)
    files = leftovers(settings)

    assert take(owner) == first
    assert leftovers(settings) == files


def test_the_same_file_with_another_target_is_another_version(owner: User) -> None:
    take(owner)
    second = take(owner, target="a")

    assert second.number == 2
    assert second.schema["target"] == "a"


def test_a_bad_file_leaves_nothing(owner: User, settings: Settings) -> None:
    with pytest.raises(Invalid, match="Row 2 has 1 value"):
        take(owner, b"a,label\n1,x\n2\n")

    assert not Dataset.objects.exists()
    assert leftovers(settings) == []


def test_an_upload_over_the_limit_leaves_nothing(owner: User, settings: Settings) -> None:
    settings.MAX_UPLOAD_SIZE = 10

    with pytest.raises(TooLarge):
        take(owner)
    assert leftovers(settings) == []


def test_a_full_disk_is_refused_before_anything_is_written(
    owner: User, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setattr("mlserver.lib.files.SPARE_BYTES", 2**60)

    with pytest.raises(NoSpace):
        take(owner)
    assert leftovers(settings) == []


def test_a_crash_before_the_commit_leaves_no_row_and_no_obstacle(
    owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def move_and_break(folder: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(target)
        raise OSError("the power went")

    with monkeypatch.context() as patch:
        patch.setattr(services, "move_into_place", move_and_break)
        with pytest.raises(OSError, match="power"):
            take(owner)

    assert not DatasetVersion.objects.exists()
    assert (take(owner).folder / "data.csv").read_bytes() == CSV


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden"])
def test_a_name_that_is_a_path_is_refused(owner: User, name: str) -> None:
    with pytest.raises(Invalid, match="name"):
        take(owner, name=name)


def test_somebody_elses_name_is_refused(owner: User, teammate: User) -> None:
    take(owner)

    with pytest.raises(Forbidden, match="belongs to owner"):
        take(teammate, CSV + b"4,y\n")


def test_an_admin_may_add_to_any_dataset(owner: User, admin: User) -> None:
    take(owner)

    assert take(admin, CSV + b"4,y\n").dataset.owner == owner


# --- A file on the server ---------------------------------------------------------------


@pytest.mark.parametrize("path", ["mine.csv", "data/mine.csv"])
def test_a_file_in_the_datasets_directory_is_copied(
    owner: User, settings: Settings, path: str
) -> None:
    source = Path(settings.DATASETS_DIR) / "mine.csv"
    source.write_bytes(CSV)
    version, is_new = register_path(owner=owner, path=path)

    assert is_new
    assert version.dataset.name == "mine"
    source.unlink()
    assert (version.folder / "data.csv").read_bytes() == CSV


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../secret.csv", "data/../../secret.csv", "link.csv", "missing.csv"]
)
def test_a_path_outside_is_not_found(owner: User, settings: Settings, path: str) -> None:
    root = Path(settings.DATASETS_DIR)
    (root.parent / "secret.csv").write_bytes(CSV)
    (root / "link.csv").symlink_to(root.parent / "secret.csv")

    with pytest.raises(DatasetNotFound) as caught:
        register_path(owner=owner, path=path, name="x")
    assert caught.value.errors[0].field == "path"


# --- Built-in ---------------------------------------------------------------------------


def test_the_builtins_are_seeded_once(db: None) -> None:
    made = seed_builtins()

    assert {version.dataset.name for version in made} == set(BUILTIN_NAMES)
    assert all(version.dataset.is_builtin and version.dataset.description for version in made)
    assert find_version("digits").dimensions == [1797, 8, 8, 1]
    assert seed_builtins() == []


def test_a_builtin_is_registered_once(db: None) -> None:
    assert register_builtin("iris") == register_builtin("iris")


def test_a_builtin_does_not_take_a_name_from_a_person(owner: User) -> None:
    take(owner, name="iris")

    with pytest.raises(Conflict):
        register_builtin("iris")


def test_the_builtins_are_those_that_the_child_knows() -> None:
    assert tuple(each["name"] for each in run_ml("list_builtins", {})) == BUILTIN_NAMES


def test_a_person_cannot_change_a_builtin(owner: User, admin: User) -> None:
    dataset = register_builtin("iris").dataset

    with pytest.raises(Forbidden, match="belongs to the server"):
        delete_dataset(dataset, owner)
    delete_dataset(dataset, admin)


# --- Finding and looking ----------------------------------------------------------------


def test_a_reference_finds_the_newest_or_the_named_version(owner: User) -> None:
    first = take(owner)
    second = take(owner, CSV + b"4,y\n")

    assert find_version("table") == second
    assert find_version("table@1") == find_version("table/v1") == first


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("MNIST", "Dataset not found: MNIST.*digits28 has the same shape"),
        ("tabel", "did you mean table"),
        ("table@7", "has no version 7; the newest is 1"),
        ("", "Dataset not found"),
        ("\0", "Dataset not found"),
    ],
)
def test_what_is_not_there_is_answered_with_help(
    owner: User, reference: str, sentence: str
) -> None:
    factories.dataset_version(name="table")

    with pytest.raises(DatasetNotFound, match=sentence):
        find_version(reference)


def test_the_first_rows_come_from_a_file_and_the_others_from_a_child(
    owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "".join(f"{index},x\n" for index in range(130))
    version = take(owner, f"a,label\n{rows}".encode())

    assert [row[0] for row in read_preview(version, 2, 100)["rows"]] == list(range(100, 130))
    monkeypatch.setattr(services, "run_ml", None)
    preview = read_preview(version, 2, 50)
    assert [row[0] for row in preview["rows"]] == list(range(50, 100))
    assert (preview["columns"], preview["total"]) == (["a", "label"], 130)
    assert read_preview(version, 3, 100)["rows"] == []


@pytest.mark.parametrize(("number", "page_size"), [(0, 10), (1, 0), (1, 1001)])
def test_a_page_out_of_range_is_refused(owner: User, number: int, page_size: int) -> None:
    with pytest.raises(Invalid):
        read_preview(take(owner), number, page_size)


def test_files_that_are_gone_are_said_to_be_gone(owner: User) -> None:
    with pytest.raises(DatasetNotFound, match="gone from the disk"):
        read_preview(factories.dataset_version(), 1, 10)


# --- Changing and deleting --------------------------------------------------------------


def test_a_renamed_dataset_keeps_its_files_and_frees_its_name(owner: User) -> None:
    old = take(owner)
    change_dataset(old.dataset, owner, name="older", description="moved")
    new = take(owner, CSV + b"9,z\n")

    assert find_version("older") == old
    assert (old.folder / "data.csv").read_bytes() == CSV
    assert new.folder != old.folder
    assert find_version("table") == new


def test_a_name_that_is_taken_cannot_be_given(owner: User) -> None:
    take(owner, name="one")
    other = take(owner, name="two").dataset

    with pytest.raises(Conflict, match="There already is a dataset called one"):
        change_dataset(other, owner, name="one")


def test_deleting_removes_rows_and_files(owner: User, settings: Settings) -> None:
    take(owner)
    delete_dataset(take(owner, CSV + b"4,y\n").dataset, owner)

    assert not DatasetVersion.objects.exists()
    assert leftovers(settings) == []
    assert take(owner).number == 1


def test_a_folder_that_is_still_being_deleted_is_not_written_into(
    owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(trash.Entry, "fill", lambda entry: None)
        old = take(owner)
        delete_dataset(old.dataset, owner)
    new = take(owner)

    assert new.number == 1
    assert new.folder != old.folder


def test_a_dataset_that_a_session_learned_from_stays(owner: User) -> None:
    version = take(owner)
    session = factories.session(dataset_version=version, name="my run")

    with pytest.raises(DatasetInUse, match="my run learned from it"):
        delete_dataset(version.dataset, owner)
    assert (version.folder / "data.csv").is_file()
    session.delete()
    delete_dataset(version.dataset, owner)


@pytest.mark.parametrize("who", ["teammate", "stranger"])
def test_only_the_owner_or_an_admin_changes(
    owner: User, request: pytest.FixtureRequest, who: str
) -> None:
    dataset = take(owner).dataset
    other: User = request.getfixturevalue(who)

    with pytest.raises(Forbidden):
        change_dataset(dataset, other, description="mine now")
    with pytest.raises(Forbidden):
        delete_dataset(dataset, other)


def test_every_refusal_is_an_error_of_the_tree() -> None:
    assert issubclass(DatasetNotFound, AppError)
    assert issubclass(DatasetInUse, AppError)
