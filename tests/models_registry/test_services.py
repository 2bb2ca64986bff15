"""Registering, finding, changing and deleting models, with real folders."""

import hashlib
import os
import threading
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from mlserver.lib.errors import Conflict, Forbidden, Invalid, NoSpace, NotFound
from models_registry import removal, services, storage
from models_registry.models import ModelVersion, RegisteredModel
from tests.models_registry.folders import make_folder, register


def stored(settings: Settings) -> list[str]:
    """Every file under MODELS_DIR that belongs to a version."""
    root: Path = settings.MODELS_DIR
    files = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(str(path) for path in files if not path.parts[0].startswith("."))


def leftovers(settings: Settings) -> list[Path]:
    return list((settings.MODELS_DIR / ".incoming").glob("*"))


def test_it_registers_a_folder_as_the_first_version(
    owner: User, tmp_path: Path, settings: Settings
) -> None:
    version = register(tmp_path / "model", owner, session="train_1")
    assert str(version) == "digits@1"
    assert version.model.owner == owner
    assert stored(settings) == [
        "digits/v1/config.json", "digits/v1/model.py", "digits/v1/model.safetensors",
    ]  # fmt: skip
    for file in version.files:
        data = (version.folder / file["path"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(data).hexdigest()
        assert file["size_bytes"] == len(data)
    assert version.size_bytes == sum(file["size_bytes"] for file in version.files)
    assert not leftovers(settings)


def test_it_keeps_its_own_copy(owner: User, tmp_path: Path) -> None:
    version = register(tmp_path / "model", owner)
    (tmp_path / "model" / "config.json").write_text("changed")
    assert (version.folder / "config.json").read_text() == '{"task": "classification"}'


def test_it_counts_versions_up(owner: User, tmp_path: Path) -> None:
    numbers = [register(tmp_path / "model", owner).number for _ in range(3)]
    assert numbers == [1, 2, 3]


def test_it_registers_a_session_once(owner: User, tmp_path: Path, settings: Settings) -> None:
    first = register(tmp_path / "model", owner, session="train_1")
    again = register(tmp_path / "gone" / "model", owner, session="train_1")
    assert again.pk == first.pk
    assert len(stored(settings)) == 3


def test_it_finds_the_first_of_a_session_after_losing_the_race(
    owner: User, tmp_path: Path, settings: Settings
) -> None:
    first = register(tmp_path / "model", owner, session="train_1")
    with mock.patch.object(services, "_made_by", side_effect=[None, first]):
        again = register(tmp_path / "model", owner, name="other", session="train_1")
    assert again.pk == first.pk
    assert not RegisteredModel.objects.filter(name="other").exists()
    assert len(stored(settings)) == 3
    assert not leftovers(settings)


def test_it_leaves_a_name_of_somebody_else_alone(
    owner: User, teammate: User, tmp_path: Path
) -> None:
    register(tmp_path / "model", owner)
    assert [str(register(tmp_path / "model", teammate)) for _ in range(2)] == [
        "digits-2@1",
        "digits-2@2",
    ]
    assert str(register(tmp_path / "model", None)) == "digits-3@1"


def test_a_replacement_name_stays_within_the_limit(
    owner: User, teammate: User, tmp_path: Path
) -> None:
    register(tmp_path / "model", owner, name="a" * 100)
    assert register(tmp_path / "model", teammate, name="a" * 100).model.name == "a" * 98 + "-2"


def test_it_never_gives_a_number_twice(owner: User, tmp_path: Path) -> None:
    register(tmp_path / "model", owner)
    second = register(tmp_path / "model", owner)
    removal.delete_version(second, owner)
    assert register(tmp_path / "model", owner).number == 3


def test_it_takes_a_hub_like_name(owner: User, tmp_path: Path) -> None:
    version = register(tmp_path / "model", owner, name="org/net")
    assert version.file_path == "org--net/v1"


def test_it_refuses_a_bad_name_before_it_copies(
    owner: User, tmp_path: Path, settings: Settings
) -> None:
    with pytest.raises(Invalid):
        register(tmp_path / "model", owner, name="../../etc")
    assert list(settings.MODELS_DIR.iterdir()) == []


def test_it_refuses_links(owner: User, tmp_path: Path, settings: Settings) -> None:
    folder = make_folder(tmp_path / "model")
    (folder / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(Invalid, match="passwd is no plain file"):
        register(folder, owner)
    assert not leftovers(settings)


def test_it_refuses_an_empty_folder(owner: User, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(Invalid, match="no files"):
        register(tmp_path / "empty", owner)


def test_it_refuses_what_does_not_fit(owner: User, tmp_path: Path, settings: Settings) -> None:
    folder = make_folder(tmp_path / "model")
    with (
        mock.patch("shutil.disk_usage", return_value=mock.Mock(free=1000)),
        pytest.raises(NoSpace),
    ):
        register(folder, owner)
    assert not RegisteredModel.objects.exists()


def test_a_full_disk_leaves_nothing_behind(owner: User, tmp_path: Path, settings: Settings) -> None:
    folder = make_folder(tmp_path / "model")
    with (
        mock.patch("os.fsync", side_effect=OSError(28, "No space left on device")),
        pytest.raises(NoSpace),
    ):
        register(folder, owner)
    assert not RegisteredModel.objects.exists()
    assert not leftovers(settings)


def test_a_refusal_of_the_database_leaves_nothing_behind(
    owner: User, tmp_path: Path, settings: Settings
) -> None:
    with (
        mock.patch.object(ModelVersion.objects, "create", side_effect=IntegrityError),
        pytest.raises(IntegrityError),
    ):
        register(tmp_path / "model", owner)
    assert not RegisteredModel.objects.exists()
    assert stored(settings) == []
    assert not leftovers(settings)


def test_a_folder_without_a_row_is_left_alone(
    owner: User, tmp_path: Path, settings: Settings
) -> None:
    make_folder(settings.MODELS_DIR / "digits" / "v1", value=5.0)  # died between rename and commit
    version = register(tmp_path / "model", owner)
    assert version.number == 1
    assert version.file_path == "digits~2/v1"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("sessions", [["train_1"] * 6, [f"train_{n}" for n in range(6)]])
def test_a_race_of_registrations_gives_each_session_one_number(
    tmp_path: Path, settings: Settings, sessions: list[str]
) -> None:
    owner = User.objects.create_user("racer")
    folder = make_folder(tmp_path / "model")
    results: list[Any] = []
    barrier = threading.Barrier(len(sessions))

    def run(session: str) -> None:
        try:
            barrier.wait(20)
            results.append(str(register(folder, owner, session=session)))
        except Exception as error:  # noqa: BLE001  (the assertion below shows it)
            results.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    distinct = len(set(sessions))
    assert sorted(map(str, results)) == sorted(
        f"digits@{n + 1}" for n in range(distinct) for _ in range(len(sessions) // distinct)
    )
    assert len(stored(settings)) == 3 * distinct
    assert not leftovers(settings)


def test_it_finds_versions_by_reference(owner: User, tmp_path: Path) -> None:
    first, second = (register(tmp_path / "model", owner) for _ in range(2))
    services.set_alias(first.model, "champion", first, owner)
    found = [
        services.find_version(reference)
        for reference in ("digits", "digits@latest", "digits@1", "digits@v2", "digits@champion")
    ]
    assert found == [second, second, first, second, first]


def test_it_says_what_there_is_instead(owner: User, tmp_path: Path) -> None:
    register(tmp_path / "model", owner)
    with pytest.raises(NotFound, match=r"Model not found: digts\. Did you mean digits\?"):
        services.find_model("digts")
    with pytest.raises(NotFound, match=r"digits has no version '7'\. It has 1\."):
        services.find_version("digits@7")


def test_an_alias_moves_in_one_step(owner: User, tmp_path: Path) -> None:
    first, second = (register(tmp_path / "model", owner) for _ in range(2))
    services.set_alias(first.model, "champion", first, owner)
    services.set_alias(first.model, "champion", second, owner)
    assert first.model.aliases.get().version == second
    services.delete_alias(first.model, "champion", owner)
    with pytest.raises(NotFound):
        services.delete_alias(first.model, "champion", owner)


def test_an_alias_does_not_cross_models(owner: User, tmp_path: Path) -> None:
    one = register(tmp_path / "model", owner)
    other = register(tmp_path / "model", owner, name="other")
    with pytest.raises(ValueError, match="no version of"):
        services.set_alias(one.model, "champion", other, owner)


def test_a_deleted_version_goes_to_the_trash(
    owner: User,
    tmp_path: Path,
    settings: Settings,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    version = register(tmp_path / "model", owner)
    with django_capture_on_commit_callbacks(execute=True):
        removal.delete_version(version, owner)
    assert stored(settings) == []
    [entry] = removal.list_deleted()
    assert list(entry.path.glob("*/model.safetensors"))
    assert removal.empty_trash() == 0
    settings.TRASH_DAYS = 0
    assert removal.empty_trash() == 1
    assert not entry.path.exists()


def test_a_model_made_again_keeps_its_new_files(
    owner: User,
    tmp_path: Path,
    settings: Settings,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    version = register(tmp_path / "model", owner)
    with django_capture_on_commit_callbacks(execute=True):
        removal.delete_model(version.model, owner)
        again = register(tmp_path / "model", owner)  # before the old files are thrown away
    assert again.file_path != version.file_path
    assert len(stored(settings)) == 3
    assert len(removal.list_deleted()) == 1


def test_copies_that_a_crash_left_are_cleared_away(settings: Settings) -> None:
    left = make_folder(settings.MODELS_DIR / ".incoming" / "x")
    os.utime(left, (0, 0))
    assert storage.clear_incoming() == 1


def test_deleting_a_model_deletes_its_versions(
    owner: User,
    tmp_path: Path,
    settings: Settings,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    version = register(tmp_path / "model", owner)
    register(tmp_path / "model", owner)
    with django_capture_on_commit_callbacks(execute=True):
        removal.delete_model(version.model, owner)
    assert not ModelVersion.objects.exists()
    assert stored(settings) == []


def test_an_alias_protects_its_version_and_its_model(owner: User, tmp_path: Path) -> None:
    version = register(tmp_path / "model", owner)
    services.set_alias(version.model, "champion", version, owner)
    with pytest.raises(Conflict, match="alias champion"):
        removal.delete_version(version, owner)
    with pytest.raises(Conflict, match="alias champion"):
        removal.delete_model(version.model, owner)
    assert version.folder.exists()


def test_only_the_owner_or_an_admin_changes(
    owner: User, teammate: User, stranger: User, admin: User, tmp_path: Path
) -> None:
    version = register(tmp_path / "model", owner)
    model = version.model
    for person in (teammate, stranger):
        for attempt in (
            lambda by: services.set_card(version, "x", by),
            lambda by: services.set_description(model, "x", by),
            lambda by: services.set_alias(model, "champion", version, by),
            lambda by: services.delete_alias(model, "champion", by),
            lambda by: removal.delete_version(version, by),
            lambda by: removal.delete_model(model, by),
        ):
            with pytest.raises(Forbidden, match="belongs to owner"):
                attempt(person)
    services.set_card(version, "Knows digits.", admin)
    removal.delete_model(model, admin)


def test_it_reads_the_headers_of_the_weights(owner: User, tmp_path: Path) -> None:
    header = services.read_header(register(tmp_path / "model", owner))["model.safetensors"]
    assert header["parameter_count"] == 6
    assert header["tensors"][0]["shape"] == [2, 3]


def test_it_says_when_files_were_damaged(owner: User, tmp_path: Path) -> None:
    version = register(tmp_path / "model", owner)
    (version.folder / "model.safetensors").write_bytes(b"short")
    with pytest.raises(services.Damaged, match="missing on disk or was changed"):
        services.read_header(version)
