"""Datasets from an address and from a double of the Hub that speaks its protocol."""

import json
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from datasets.models import Dataset
from tests.lib.receiver import Receiver, receiver, reply

pytestmark = pytest.mark.django_db
CSV = b"x,label\n1,a\n2,b\n"


@pytest.fixture
def local(settings: Settings) -> None:
    settings.ALLOWED_PRIVATE_HOSTS = ["127.0.0.1"]
    settings.HF_HUB_OFFLINE = False


def add(user: User, **body: Any) -> Any:
    client = Client()
    client.force_login(user)
    return client.post("/api/v1/datasets/", orjson.dumps(body), "application/json")


def incoming(settings: Settings) -> list[Path]:
    return list((Path(settings.DATASETS_DIR) / ".incoming").glob("*"))


def test_a_file_is_taken_from_an_address(owner: User, local: None) -> None:
    with receiver() as told:
        told.answer = lambda handler: reply(handler, 200, CSV)
        made = add(owner, url=f"{told.url}/files/my%20table.csv?raw=1", target="x")

    assert made.status_code == 201, made.content
    assert (made.json()["name"], made.json()["sample_count"]) == ("my-table", 2)
    assert made.json()["latest"]["target"] == "x"
    assert told.requests[0][0] == "/files/my%20table.csv?raw=1"


def test_an_address_that_is_not_public_is_refused(owner: User, settings: Settings) -> None:
    with receiver() as told:
        refused = add(owner, url=f"{told.url}/data.csv")

    assert (refused.status_code, refused.json()["code"]) == (422, "address_refused")
    assert "ALLOWED_PRIVATE_HOSTS" in refused.json()["detail"]
    assert not told.requests
    assert not incoming(settings)


def short(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(CSV)


def elsewhere(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "http://169.254.169.254/latest/meta-data/x.csv")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda handler: reply(handler, 404), "status 404"),
        (short, "broke off after"),
        (elsewhere, "sends on to http://169.254.169.254"),
    ],
)
def test_an_address_that_does_not_give_the_file_is_a_sentence(
    owner: User, local: None, settings: Settings, answer: Any, reason: str
) -> None:
    with receiver() as told:
        told.answer = answer
        refused = add(owner, url=f"{told.url}/data.csv")

    assert refused.status_code == 502
    assert reason in refused.json()["detail"]
    assert not Dataset.objects.exists()
    assert not incoming(settings)


def test_a_file_that_is_too_large_is_cut_off(owner: User, local: None, settings: Settings) -> None:
    settings.MAX_UPLOAD_SIZE = 10
    with receiver() as told:
        told.answer = lambda handler: reply(handler, 200, CSV)
        assert add(owner, url=f"{told.url}/data.csv").status_code == 413


def parquet() -> bytes:
    stream = BytesIO()
    pq.write_table(pa.table({"x": [1, 2, 3], "label": ["a", "b", "a"]}), stream)
    return stream.getvalue()


def hub(told: Receiver, files: int = 1) -> Any:
    """The Hub's two doors: which files there are, and a redirect to where each lies."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        path = handler.path
        if path == "/api/datasets/org/flowers/parquet":
            urls = [f"{told.url}/parquet/default/train/{n}.parquet" for n in range(files)]
            reply(handler, 200, json.dumps({"default": {"train": urls, "test": []}}).encode())
        elif path.startswith("/storage/"):
            reply(handler, 200, CSV if path.endswith("csv") else parquet())
        elif path.startswith(("/parquet/", "/datasets/org/flowers/resolve/main/")):
            handler.send_response(302)
            handler.send_header("Location", f"/storage/{path.rpartition('/')[2]}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        else:
            reply(handler, 404)

    return answer


def test_a_dataset_of_the_hub_is_its_train_split(
    owner: User, local: None, settings: Settings
) -> None:
    with receiver() as told:
        settings.HF_ENDPOINT, told.answer = told.url, hub(told)
        made = add(owner, hub="org/flowers")

    assert made.status_code == 201, made.content
    assert (made.json()["name"], made.json()["sample_count"]) == ("flowers", 3)
    assert made.json()["format"] == "parquet"


def test_one_file_of_the_hub_can_be_named(owner: User, local: None, settings: Settings) -> None:
    with receiver() as told:
        settings.HF_ENDPOINT, told.answer = told.url, hub(told)
        made = add(owner, hub="org/flowers", file="data/small.csv", name="small")

    assert (made.json()["name"], made.json()["format"]) == ("small", "csv")


def test_a_dataset_in_parts_asks_for_one_of_them(
    owner: User, local: None, settings: Settings
) -> None:
    with receiver() as told:
        settings.HF_ENDPOINT, told.answer = told.url, hub(told, files=3)
        refused = add(owner, hub="org/flowers")

    assert refused.status_code == 422
    assert "train: 3 files" in refused.json()["detail"]


def test_what_the_hub_does_not_have_is_a_404(owner: User, local: None, settings: Settings) -> None:
    with receiver() as told:
        settings.HF_ENDPOINT, told.answer = told.url, hub(told)
        assert add(owner, hub="org/nothing").status_code == 404


def test_without_the_hub_it_says_so(owner: User, settings: Settings) -> None:
    settings.HF_HUB_OFFLINE = True
    refused = add(owner, hub="org/flowers")
    assert refused.status_code == 422
    assert "HF_HUB_OFFLINE" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "path"),
        ({"url": "http://a.test/x", "hub": "a/b"}, "path"),
        ({"url": "http://a.test/x", "file": "x"}, "file"),
        ({"hub": "../x"}, "hub"),
        ({"url": "ftp://a.test/x.csv"}, "url"),
    ],
)
def test_a_source_that_makes_no_sense_is_named(
    owner: User, settings: Settings, body: dict[str, str], field: str
) -> None:
    settings.HF_HUB_OFFLINE = False
    refused = add(owner, **body)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == field


def test_the_page_takes_an_address_too(owner: User, local: None) -> None:
    client = Client(headers={"accept": "text/html"})
    client.force_login(owner)
    with receiver() as told:
        told.answer = lambda handler: reply(handler, 200, CSV)
        made = client.post("/datasets/upload/", {"url": f"{told.url}/table.csv"})
    assert made["Location"] == "/datasets/table/"

    neither = client.post("/datasets/upload/", {})
    assert neither.status_code == 422
    assert "give the address of one" in neither.content.decode()
