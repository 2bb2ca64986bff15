"""Uploads in pieces: they go on where they broke off, and become datasets and models."""

import os
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from tests.models_registry.brought import pack_zip, t5_folder

pytestmark = pytest.mark.django_db
BASE = "/api/v1/uploads/"
CSV = b"x,label\n" + b"".join(b"%d,%s\n" % (n, b"ab"[n % 2 : n % 2 + 1]) for n in range(50))


def door(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def post(client: Client, path: str, body: Any) -> Any:
    return client.post(path, orjson.dumps(body), "application/json")


def begin(client: Client, content: bytes, filename: str = "data.csv") -> str:
    made = post(client, BASE, {"filename": filename, "size_bytes": len(content)})
    assert made.status_code == 201, made.content
    return str(made.json()["id"])


def send(client: Client, upload: str, offset: object, piece: bytes) -> Any:
    return client.patch(
        f"{BASE}{upload}", piece, "application/octet-stream", headers={"Upload-Offset": str(offset)}
    )


def folders() -> list[Path]:
    return list((Path(django_settings.FILE_UPLOAD_TEMP_DIR) / "partial").glob("*"))


def test_pieces_become_a_dataset(owner: User) -> None:
    client = door(owner)
    upload = begin(client, CSV)
    assert send(client, upload, 0, CSV[:100]).json()["offset"] == 100
    assert client.get(f"{BASE}{upload}").json()["offset"] == 100
    assert send(client, upload, 100, CSV[100:]).json()["is_complete"] is True

    made = post(client, "/api/v1/datasets/", {"upload": upload})

    assert made.status_code == 201, made.content
    assert (made.json()["name"], made.json()["sample_count"]) == ("data", 50)
    assert not folders()


def test_pieces_become_a_model(owner: User) -> None:
    client = door(owner)
    content = pack_zip(t5_folder())
    upload = begin(client, content, "t5.zip")
    send(client, upload, 0, content)

    made = post(client, "/api/v1/models/", {"upload": upload, "name": "t5"})

    assert (made.status_code, made.json()["framework"]) == (201, "transformers")
    assert not folders()


def test_a_piece_that_is_sent_twice_changes_nothing(owner: User) -> None:
    client = door(owner)
    upload = begin(client, CSV)
    send(client, upload, 0, CSV[:100])

    again = send(client, upload, 0, CSV[:100])

    assert (again.status_code, again.json()["code"]) == (409, "wrong_offset")
    assert "go on at that offset" in again.json()["detail"]
    assert client.get(f"{BASE}{upload}").json()["offset"] == 100


def test_what_is_not_complete_is_not_taken(owner: User) -> None:
    client = door(owner)
    upload = begin(client, CSV)
    send(client, upload, 0, CSV[:100])

    refused = post(client, "/api/v1/datasets/", {"upload": upload})

    assert (refused.status_code, refused.json()["code"]) == (409, "incomplete")
    assert folders()


def test_a_refused_file_can_be_asked_for_again_or_given_up(owner: User) -> None:
    client = door(owner)
    upload = begin(client, b"\x80\x04N.", "m.pkl")
    send(client, upload, 0, b"\x80\x04N.")

    refused = post(client, "/api/v1/models/", {"upload": upload, "name": "evil"})

    assert (refused.status_code, refused.json()["code"]) == (422, "pickle")
    assert client.delete(f"{BASE}{upload}").status_code == 204
    assert client.get(f"{BASE}{upload}").status_code == 404
    assert not folders()


def test_more_than_was_announced_is_refused(owner: User) -> None:
    client = door(owner)
    upload = begin(client, b"x")
    assert send(client, upload, 0, b"xy").json()["code"] == "too_long"


def test_somebody_elses_upload_is_as_good_as_none(owner: User, teammate: User) -> None:
    upload = begin(door(owner), CSV)
    client = door(teammate)
    assert client.get(f"{BASE}{upload}").status_code == 404
    assert send(client, upload, 0, b"x").status_code == 404
    assert client.delete(f"{BASE}{upload}").status_code == 404
    assert post(client, "/api/v1/datasets/", {"upload": upload}).status_code == 404


@pytest.mark.parametrize("upload", ["..", "upload_../x", "upload_20260101_000000_abcde", "%2e%2e"])
def test_an_upload_that_is_not_there_is_a_404(owner: User, upload: str) -> None:
    assert door(owner).get(f"{BASE}{upload}").status_code == 404


@pytest.mark.parametrize("offset", ["", "-1", "x", "1.5", "9" * 40])
def test_the_offset_must_be_a_number(owner: User, offset: str) -> None:
    client = door(owner)
    refused = send(client, begin(client, CSV), offset, b"x")
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "Upload-Offset"


def test_a_file_beyond_the_limit_is_not_begun(owner: User, settings: Settings) -> None:
    settings.MAX_UPLOAD_SIZE = 10
    refused = post(door(owner), BASE, {"filename": "x.csv", "size_bytes": 11})
    assert refused.status_code == 413
    assert not folders()


def test_viewers_send_nothing(stranger: User) -> None:
    assert post(door(stranger), BASE, {"filename": "x", "size_bytes": 1}).status_code == 403


def test_what_nobody_goes_on_with_is_removed_after_a_day(owner: User) -> None:
    client = door(owner)
    old, young = begin(client, CSV), begin(client, CSV)
    data = Path(django_settings.FILE_UPLOAD_TEMP_DIR) / "partial" / old / "data"
    os.utime(data, (time.time() - 25 * 3600,) * 2)

    new = begin(client, CSV)

    assert {folder.name for folder in folders()} == {young, new}
