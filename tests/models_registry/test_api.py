"""The registry over HTTP: what one can read, change, download, and who may."""

import io
import zipfile
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.contrib.auth.models import User
from django.http.response import HttpResponseBase
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from models_registry.models import ModelVersion, RegisteredModel
from models_registry.services import set_alias
from tests import factories
from tests.models_registry.folders import register

BASE = "/api/v1/models"


def door(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def send(client: Client, method: str, path: str, body: Any = None) -> Any:
    return client.generic(
        method, f"{BASE}{path}", b"" if body is None else orjson.dumps(body), "application/json"
    )


def body(response: HttpResponseBase) -> bytes:
    assert response.streaming
    return b"".join(response)


@pytest.fixture
def version(owner: User, tmp_path: Path) -> ModelVersion:
    return register(tmp_path / "model", owner, session="train_1")


def test_it_lists_models_with_facts_of_the_latest_version(
    owner: User, stranger: User, version: ModelVersion, tmp_path: Path
) -> None:
    set_alias(version.model, "champion", version, owner)
    register(tmp_path / "model", owner)
    answer = send(door(stranger), "GET", "/").json()
    assert answer["total"] == 1
    [model] = answer["results"]
    assert model["name"] == "digits"
    assert model["owner"] == "owner"
    assert model["task"] == "classification"
    assert model["latest_version"] == 2
    assert model["version_count"] == 2
    assert model["aliases"] == {"champion": 1}
    assert model["metrics"] == {"val_accuracy": 0.98}
    assert model["size_bytes"] == version.size_bytes
    assert model["size_mb"] == round(version.size_bytes / 1e6, 3)


def test_both_spellings_of_an_address_answer(stranger: User, version: ModelVersion) -> None:
    client = door(stranger)
    for path in ("", "/digits", "/digits/versions", "/digits/versions/1", "/digits/lineage"):
        assert send(client, "GET", path).json() == send(client, "GET", path + "/").json()


def test_it_searches_filters_and_orders(stranger: User) -> None:
    factories.model_version(name="iris-mlp", size_bytes=30)
    factories.model_version(name="digits-cnn", size_bytes=20)
    factories.model_version(name="prices", task="regression", size_bytes=10)
    client = door(stranger)

    def names(query: str) -> list[str]:
        return [row["name"] for row in send(client, "GET", query).json()["results"]]

    assert names("") == ["digits-cnn", "iris-mlp", "prices"]
    assert names("?search=cnn") == ["digits-cnn"]
    assert names("?task=regression") == ["prices"]
    assert names("?ordering=size_bytes") == ["prices", "digits-cnn", "iris-mlp"]
    assert names("?ordering=-name&limit=1&skip=1") == ["iris-mlp"]


def test_it_refuses_an_unknown_filter(stranger: User, db: None) -> None:
    response = send(door(stranger), "GET", "?tusk=x")
    assert response.status_code == 422
    assert "did you mean 'task'" in response.json()["detail"]


def test_a_list_costs_the_same_for_one_model_and_for_many(
    stranger: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    client = door(stranger)
    for count in (1, 8):
        for _ in range(count):
            row = factories.model_version(owner=stranger)
            factories.model_version(name=row.model.name)
            set_alias_row(row)
        # session, user, groups; count, models, newest versions, aliases
        with django_assert_num_queries(7):
            assert send(client, "GET", "/").json()["total"] >= count
    name = RegisteredModel.objects.all()[0].name
    with django_assert_num_queries(7):  # … model, count, versions, aliases
        assert send(client, "GET", f"/{name}/versions/").json()["total"] == 2


def set_alias_row(version: ModelVersion) -> None:
    version.model.aliases.create(name="champion", version=version)


def test_it_shows_a_version_with_files_and_lineage(stranger: User, version: ModelVersion) -> None:
    client = door(stranger)
    shown = send(client, "GET", "/digits/versions/1").json()
    assert shown == send(client, "GET", "/digits/versions/latest").json()
    assert shown["model"] == "digits"
    assert shown["version"] == 1
    assert shown["files"] == version.files
    assert shown["created_by"] == "owner"
    assert shown["lineage"]["session"] == "train_1"
    lineage = send(client, "GET", "/digits/versions/1/lineage").json()
    assert lineage["lineage"] == {"session": "train_1", "dataset": "digits@1"}


def test_it_shows_what_the_weights_are(stranger: User, version: ModelVersion) -> None:
    header = send(door(stranger), "GET", "/digits/versions/1/header").json()
    assert header["parameter_count"] == 6
    [file] = header["files"]
    assert file["path"] == "model.safetensors"
    assert file["tensors"][0] == {
        "name": "w",
        "dtype": "F32",
        "shape": [2, 3],
        "size_bytes": 24,
    }


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/digits/versions/7", "/digits/versions/0", "/digits/versions/x",
     "/digits/versions/99999999999999999999", "/digits@1", "/..", "/%2e%2e%2fetc", "/digits/x",
     "/nothing/versions", "/nothing/download", "/digits/versions/7/download"],
)  # fmt: skip
def test_what_does_not_exist_is_a_problem_404(
    stranger: User, version: ModelVersion, path: str
) -> None:
    response = send(door(stranger), "GET", path)
    assert response.status_code == 404
    assert response["Content-Type"] == "application/problem+json"


def test_without_a_key_there_is_nothing(version: ModelVersion) -> None:
    for path in ("/", "/digits", "/digits/download", "/digits/versions/1/download?file=model.py"):
        assert send(Client(), "GET", path).status_code == 401


def test_a_zip_holds_every_file_as_it_was_registered(stranger: User, version: ModelVersion) -> None:
    response = door(stranger).get(f"{BASE}/digits/download")
    assert response["Content-Disposition"] == 'attachment; filename="digits-v1.zip"'
    assert response["Content-Type"] == "application/zip"
    assert response["X-Content-Type-Options"] == "nosniff"
    with zipfile.ZipFile(io.BytesIO(body(response))) as archive:
        assert archive.namelist() == [f"digits-v1/{file['path']}" for file in version.files]
        stored = (version.folder / "model.safetensors").read_bytes()
        assert archive.read("digits-v1/model.safetensors") == stored


def test_a_download_does_not_care_what_is_accepted(stranger: User, version: ModelVersion) -> None:
    response = door(stranger).get(f"{BASE}/digits/download", headers={"Accept": "application/zip"})
    assert response.status_code == 200
    response.close()


def test_one_file_comes_alone_and_in_parts(stranger: User, version: ModelVersion) -> None:
    client = door(stranger)
    path = f"{BASE}/digits/versions/1/download?file=model.safetensors"
    data = (version.folder / "model.safetensors").read_bytes()
    whole = client.get(path)
    assert body(whole) == data
    assert whole["Content-Disposition"] == 'attachment; filename="model.safetensors"'
    rest = client.get(path, headers={"Range": "bytes=10-", "If-Range": whole["ETag"]})
    assert rest.status_code == 206
    assert body(rest) == data[10:]


@pytest.mark.parametrize(
    "name",
    ["../v1/model.py", "../../../etc/passwd", "/etc/passwd", "./model.py", "model.py/", "",
     "..", ".", "%2e%2e%2fmodel.py", "model.py\r\nX-Evil: 1", "no", "MODEL.PY", "a" * 5000],
)  # fmt: skip
def test_a_file_that_is_not_listed_is_not_found(
    stranger: User, version: ModelVersion, name: str
) -> None:
    response = door(stranger).get(f"{BASE}/digits/versions/1/download", {"file": name})
    assert response.status_code == 404
    assert "X-Evil" not in response


def test_the_owner_describes_and_writes_the_card(owner: User, version: ModelVersion) -> None:
    client = door(owner)
    assert send(client, "PATCH", "/digits", {"description": "D"}).json()["description"] == "D"
    assert send(client, "PATCH", "/digits/versions/1", {"card": "# C"}).json()["card"] == "# C"


def test_an_unknown_field_is_refused(owner: User, version: ModelVersion) -> None:
    response = send(door(owner), "PATCH", "/digits", {"description": "", "name": "other"})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "name"


def test_an_alias_is_set_moved_and_deleted(
    owner: User, version: ModelVersion, tmp_path: Path
) -> None:
    register(tmp_path / "model", owner)
    client = door(owner)
    for number in (1, 2):
        answer = send(client, "PUT", "/digits/aliases/champion", {"version": number})
        assert answer.json() == {"alias": "champion", "model": "digits", "version": number}
    assert send(client, "GET", "/digits/versions/champion").json()["version"] == 2
    assert send(client, "DELETE", "/digits/versions/2").status_code == 409
    assert send(client, "DELETE", "/digits/aliases/champion").status_code == 204
    assert send(client, "DELETE", "/digits/versions/2").status_code == 204
    assert send(client, "DELETE", "/digits/aliases/champion").status_code == 404


@pytest.mark.parametrize("alias", ["latest", "3", "v3", "Up", "a b"])
def test_a_reserved_alias_is_refused(owner: User, version: ModelVersion, alias: str) -> None:
    response = send(door(owner), "PUT", f"/digits/aliases/{alias}", {"version": 1})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "alias"


def test_only_the_owner_or_an_admin_changes(
    teammate: User, stranger: User, admin: User, version: ModelVersion
) -> None:
    attempts = [
        ("PATCH", "/digits", {"description": "x"}),
        ("PATCH", "/digits/versions/1", {"card": "x"}),
        ("PUT", "/digits/aliases/a", {"version": 1}),
        ("DELETE", "/digits/aliases/a", None),
        ("DELETE", "/digits/versions/1", None),
        ("DELETE", "/digits", None),
    ]
    for person in (teammate, stranger):
        for method, path, sent in attempts:
            assert send(door(person), method, path, sent).status_code == 403, (method, path)
    codes = [send(door(admin), method, path, sent).status_code for method, path, sent in attempts]
    assert codes == [200, 200, 200, 204, 204, 204]
    assert not RegisteredModel.objects.exists()
