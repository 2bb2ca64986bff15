"""REST of datasets: every endpoint, who may, and what a refusal says."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django import Settings
from rest_framework.test import APIClient

from datasets.models import Dataset
from datasets.services import import_upload
from tests import factories

URL = "/api/v1/datasets/"
CSV = b"a,label\n1,x\n2,y\n3,x\n"


def client(user: User | None = None) -> APIClient:
    api = APIClient()
    if user is not None:
        api.force_authenticate(user)
    return api


def upload(user: User, content: bytes = CSV, **fields: Any) -> Any:
    file = SimpleUploadedFile("table.csv", content)
    return client(user).post(URL, {"file": file, **fields}, format="multipart")


def test_a_file_is_uploaded(owner: User) -> None:
    answer = upload(owner, name="mine", target="label", description="small")

    body = answer.json()
    assert answer.status_code == 201
    assert (body["name"], body["version"], body["owner"]) == ("mine", 1, "owner")
    assert (body["sample_count"], body["dimensions"]) == (3, [3, 2])
    assert (body["size_bytes"], body["size_mb"]) == (len(CSV), 0.0)
    assert body["latest"]["classes"] == ["x", "y"]
    assert [column["type"] for column in body["latest"]["columns"]] == ["integer", "string"]


def test_the_same_file_again_is_200(owner: User) -> None:
    upload(owner)
    answer = upload(owner)

    assert answer.status_code == 200
    assert answer.json()["versions"] == 1


def test_a_changed_file_is_the_next_version(owner: User) -> None:
    upload(owner)
    answer = upload(owner, CSV + b"4,z\n")

    assert (answer.status_code, answer.json()["version"]) == (201, 2)


def test_a_file_on_the_server_is_registered(owner: User, settings: Settings) -> None:
    (Path(settings.DATASETS_DIR) / "mine.csv").write_bytes(CSV)
    answer = client(owner).post(URL, {"path": "mine.csv", "name": "m"}, format="json")

    assert answer.status_code == 201
    assert answer.json()["name"] == "m"


def test_a_bad_file_is_422_with_the_row(owner: User) -> None:
    answer = upload(owner, b"a,label\n1,x\n2\n")

    body = answer.json()
    assert answer.status_code == 422
    assert body["detail"].startswith("Row 2 has 1 value")
    assert body["errors"][0]["field"] == "file"
    assert not Dataset.objects.exists()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "https://example.org/x.csv"}, "url"),
        ({"hub": "mnist"}, "hub"),
        ({"path": "x.csv", "nmae": "x"}, "nmae"),
        ({}, "path"),
        ({"path": 3, "name": [1]}, "name"),
        ({"path": "x\0"}, "path"),
    ],
)
def test_a_wrong_body_is_422_and_names_the_field(owner: User, body: Any, field: str) -> None:
    answer = client(owner).post(URL, body, format="json")

    assert answer.status_code in (400, 422)
    if answer.status_code == 422:
        assert field in [error["field"] for error in answer.json()["errors"]]


def test_an_upload_without_a_file_is_422(owner: User) -> None:
    answer = client(owner).post(URL, {"name": "x"}, format="multipart")

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "file"


def test_an_empty_file_is_422(owner: User) -> None:
    answer = upload(owner, b"")

    assert answer.status_code == 422
    assert "empty" in answer.json()["detail"]


def test_a_path_outside_is_404(owner: User) -> None:
    answer = client(owner).post(URL, {"path": "../../etc/passwd"}, format="json")

    assert answer.status_code == 404
    assert answer.json()["code"] == "dataset_not_found"


def test_an_upload_over_the_limit_is_413(owner: User, settings: Settings) -> None:
    settings.MAX_UPLOAD_SIZE = 10

    assert upload(owner).status_code == 413


def test_an_announced_length_over_the_limit_is_413_before_the_body_is_read(
    owner: User, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MAX_UPLOAD_SIZE = 10
    monkeypatch.setattr("datasets.api.FORM_BYTES", 0)
    monkeypatch.setattr("datasets.api.UploadSerializer", None)

    assert upload(owner).status_code == 413


def test_a_full_disk_is_507(owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlserver.lib.files.SPARE_BYTES", 2**60)

    assert upload(owner).status_code == 507


def test_the_list_shows_the_newest_version_of_each(owner: User) -> None:
    factories.dataset_version(name="one", sample_count=1)
    factories.dataset_version(name="one", sample_count=2, file_path="one/v2")
    factories.dataset_version(name="two", format="npz")

    body = client(owner).get(URL).json()

    assert body["total"] == 2
    assert [(row["name"], row["version"], row["versions"]) for row in body["results"]] == [
        ("one", 2, 2),
        ("two", 1, 1),
    ]
    assert body["results"][0]["sample_count"] == 2


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("?search=on", ["one"]),
        ("?format=csv", ["one", "two"]),
        ("?format=npz", ["two"]),
        ("?ordering=-name", ["two", "one"]),
        ("?ordering=-size_bytes", ["two", "one"]),
        ("?skip=1", ["two"]),
        ("?owner=owner", []),
    ],
)
def test_the_list_is_searched_filtered_and_ordered(
    owner: User, query: str, names: list[str]
) -> None:
    factories.dataset_version(name="one", size_bytes=1)
    factories.dataset_version(name="one", size_bytes=2, file_path="one/v2")
    factories.dataset_version(name="two", size_bytes=3)
    factories.dataset_version(name="two", size_bytes=4, format="npz", file_path="two/v2")

    body = client(owner).get(URL + query).json()

    assert [row["name"] for row in body["results"]] == names


def test_the_list_asks_a_fixed_number_of_queries(owner: User) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as caught:
            assert client(owner).get(URL).status_code == 200
        return len(caught)

    factories.dataset_version(owner=owner)
    queries()  # the first one also asks for the person's groups
    few = queries()
    for _ in range(5):
        factories.dataset_version(owner=owner)

    assert queries() == few <= 4


def test_one_dataset_is_shown_with_and_without_the_slash(owner: User) -> None:
    upload(owner, name="mine.v1")

    for path in ("mine.v1", "mine.v1/"):
        body = client(owner).get(URL + path).json()
        assert body["latest"]["target"] == "label"


def test_a_preview_has_pages(owner: User) -> None:
    upload(owner, name="mine")
    body = client(owner).get(f"{URL}mine/preview?page=2&page_size=2").json()

    assert body == {
        "columns": ["a", "label"],
        "types": ["integer", "string"],
        "rows": [[3, "x"]],
        "total": 3,
        "columns_total": 2,
        "page": 2,
        "page_size": 2,
    }


@pytest.mark.parametrize("query", ["page=0", "page=x", "page_size=1001", "version=-1"])
def test_a_wrong_page_is_422(owner: User, query: str) -> None:
    upload(owner, name="mine")

    assert client(owner).get(f"{URL}mine/preview?{query}").status_code == 422


def test_versions_are_listed_and_shown(owner: User) -> None:
    upload(owner, name="mine")
    upload(owner, CSV + b"4,z\n", name="mine")

    listed = client(owner).get(f"{URL}mine/versions/").json()
    one = client(owner).get(f"{URL}mine/versions/1").json()

    assert [row["version"] for row in listed["results"]] == [2, 1]
    assert (one["version"], one["sample_count"]) == (1, 3)
    assert client(owner).get(f"{URL}mine/versions/3").status_code == 404


def test_the_file_is_downloaded_as_an_attachment(owner: User) -> None:
    upload(owner, name="mine")
    answer = client(owner).get(f"{URL}mine/download")

    assert b"".join(answer) == CSV
    assert answer["Content-Disposition"] == 'attachment; filename="mine-v1.csv"'
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_a_download_continues_where_it_broke(owner: User) -> None:
    upload(owner, name="mine")
    answer = client(owner).get(f"{URL}mine/download", headers={"Range": "bytes=2-6"})

    assert answer.status_code == 206
    assert b"".join(answer) == CSV[2:7]


def test_a_dataset_is_renamed_and_described(owner: User) -> None:
    upload(owner, name="mine")
    answer = client(owner).patch(f"{URL}mine", {"name": "ours", "description": "x"}, format="json")

    assert (answer.status_code, answer.json()["name"]) == (200, "ours")
    assert client(owner).get(f"{URL}mine").status_code == 404


def test_a_dataset_is_deleted(owner: User) -> None:
    upload(owner, name="mine")

    assert client(owner).delete(f"{URL}mine").status_code == 204
    assert client(owner).get(f"{URL}mine").status_code == 404


def test_a_dataset_in_use_is_409(owner: User) -> None:
    version = import_upload(owner=owner, name="mine", upload=SimpleUploadedFile("t.csv", CSV))
    factories.session(dataset_version=version, name="my run")
    answer = client(owner).delete(f"{URL}mine")

    assert answer.status_code == 409
    assert "my run" in answer.json()["detail"]


def test_everybody_known_reads(owner: User, teammate: User, stranger: User) -> None:
    upload(owner, name="mine")

    for person in (owner, teammate, stranger):
        for path in ("", "mine", "mine/preview", "mine/versions/", "mine/download"):
            assert client(person).get(URL + path).status_code == 200


def test_without_a_key_there_is_nothing(owner: User) -> None:
    upload(owner, name="mine")

    for path in ("", "mine", "mine/preview", "mine/download"):
        assert client().get(URL + path).status_code == 401
    assert client().post(URL, {"path": "x"}, format="json").status_code == 401


def test_a_teammate_cannot_change_what_is_anothers(owner: User, teammate: User) -> None:
    upload(owner, name="mine")

    assert client(teammate).patch(f"{URL}mine", {}, format="json").status_code == 403
    assert client(teammate).delete(f"{URL}mine").status_code == 403
    assert upload(teammate, CSV + b"4,z\n", name="mine").status_code == 403


def test_a_stranger_can_only_look(owner: User, stranger: User) -> None:
    upload(owner, name="mine")

    assert upload(stranger, name="theirs").status_code == 403
    assert client(stranger).delete(f"{URL}mine").status_code == 403


def test_an_unknown_dataset_is_404_with_help(owner: User) -> None:
    answer = client(owner).get(f"{URL}MNIST/preview")

    assert answer.status_code == 404
    assert "digits28" in answer.json()["detail"]


@hypothesis_settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30
)
@given(
    body=st.dictionaries(
        st.sampled_from(["path", "name", "target", "description"]),
        st.none() | st.text(max_size=20) | st.integers() | st.lists(st.text(max_size=3)),
    )
)
def test_no_body_is_a_server_error(owner: User, body: dict[str, Any]) -> None:
    assert client(owner).post(URL, body, format="json").status_code < 500
