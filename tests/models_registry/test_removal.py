"""Models and versions that were deleted come back as they were, or say why they cannot."""

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings
from rest_framework.test import APIClient

from mlserver.lib.errors import Conflict, Forbidden, NotFound
from models_registry import removal, services
from models_registry.models import ModelVersion, RegisteredModel
from tests.models_registry.folders import register


@pytest.fixture
def commits(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> DjangoCaptureOnCommitCallbacks:
    return django_capture_on_commit_callbacks


def test_a_model_comes_back_with_its_versions_and_numbers(
    owner: User, tmp_path: Path, commits: DjangoCaptureOnCommitCallbacks
) -> None:
    register(tmp_path / "model", owner, session="train_1")
    second = register(tmp_path / "model", owner, session="train_2")
    services.set_card(second, "Knows digits.", owner)
    before = list(ModelVersion.objects.order_by("pk").values())
    with commits(execute=True):
        removal.delete_model(second.model, owner)
    assert not RegisteredModel.objects.exists()

    model = removal.restore_model("digits", owner)

    assert list(ModelVersion.objects.order_by("pk").values()) == before
    assert len(services.list_members(services.find_version("digits@2"))) == 3
    assert removal.list_deleted() == []
    assert register(tmp_path / "model", owner).number == model.last_number + 1 == 3


def test_a_single_version_comes_back(
    owner: User, tmp_path: Path, commits: DjangoCaptureOnCommitCallbacks
) -> None:
    first = register(tmp_path / "model", owner)
    register(tmp_path / "model", owner)
    with commits(execute=True):
        removal.delete_version(services.find_version("digits@1"), owner)

    assert removal.list_deleted()[0].label == "digits@1"
    with pytest.raises(Conflict, match="one version"):
        removal.restore_model("digits", owner, new_name="other")
    removal.restore_model("digits", owner)
    assert services.find_version("digits@1").folder == first.folder
    assert (first.folder / "model.safetensors").is_file()


def test_a_version_whose_model_is_deleted_waits_for_it(
    owner: User, tmp_path: Path, commits: DjangoCaptureOnCommitCallbacks
) -> None:
    register(tmp_path / "model", owner)
    register(tmp_path / "model", owner)
    with commits(execute=True):
        removal.delete_version(services.find_version("digits@1"), owner)
        removal.delete_model(services.find_model("digits"), owner)
    version_entry = removal.list_deleted()[1]

    with pytest.raises(Conflict, match="Restore that first"):
        removal.restore_model("digits", owner, entry_id=version_entry.id)
    removal.restore_model("digits", owner)
    removal.restore_model("digits", owner)
    assert services.find_model("digits").versions.count() == 2


def test_a_name_that_is_taken_again_is_left_alone(
    owner: User, teammate: User, tmp_path: Path, commits: DjangoCaptureOnCommitCallbacks
) -> None:
    old = register(tmp_path / "model", owner)
    with commits(execute=True):
        removal.delete_model(old.model, owner)
    register(tmp_path / "model", teammate)

    with pytest.raises(Conflict, match="another name"):
        removal.restore_model("digits", owner)
    model = removal.restore_model("digits", owner, new_name="old-digits")
    assert services.list_members(services.find_version("old-digits@1"))
    assert services.list_members(services.find_version("digits@1"))
    assert model.owner == owner


def test_only_the_owner_or_an_admin_takes_back(
    owner: User, teammate: User, admin: User, tmp_path: Path
) -> None:
    removal.delete_model(register(tmp_path / "model", owner).model, owner)

    with pytest.raises(Forbidden):
        removal.restore_model("digits", teammate)
    removal.restore_model("digits", admin)
    with pytest.raises(NotFound, match="lies in the trash"):
        removal.restore_model("digits", admin)


def test_a_refused_deletion_leaves_no_entry(owner: User, tmp_path: Path) -> None:
    version = register(tmp_path / "model", owner)
    services.set_alias(version.model, "champion", version, owner)
    with pytest.raises(Conflict):
        removal.delete_model(version.model, owner)
    assert removal.list_deleted() == []


def test_the_api_restores_and_a_404_says_how(owner: User, tmp_path: Path) -> None:
    register(tmp_path / "model", owner)
    api = APIClient()
    api.force_authenticate(owner)
    assert api.delete("/api/v1/models/digits").status_code == 204
    assert "models/digits/restore" in api.get("/api/v1/models/digits").json()["detail"]

    answer = api.post("/api/v1/models/digits/restore", {"name": "again"}, format="json")
    assert (answer.status_code, answer.json()["name"]) == (200, "again")
    assert api.post("/api/v1/models/digits/restore").status_code == 404


def test_the_page_deletes_lists_and_restores(
    owner: User, teammate: User, tmp_path: Path, settings: Settings
) -> None:
    version = register(tmp_path / "model", owner)
    client, other = (Client(headers={"accept": "text/html"}) for _ in range(2))
    client.force_login(owner)
    other.force_login(teammate)
    answer = client.post("/models/digits/delete/", follow=True)
    assert "lies in the trash until" in answer.content.decode()
    assert "Restore" in answer.content.decode()
    assert "Restore" not in other.get("/models/").content.decode()

    entry = removal.list_deleted()[0]
    assert other.post("/models/digits/restore/", {"entry": entry.id}).status_code == 403
    back = client.post("/models/digits/restore/", {"entry": entry.id, "name": "digits"})
    assert back["Location"] == "/models/digits/"
    assert (version.folder / "model.safetensors").is_file()
