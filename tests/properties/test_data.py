"""Properties of datasets and models: what goes in comes out, what is not there is 404."""

import csv
import hashlib
import io
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from drf_spectacular.generators import SchemaGenerator
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import AuthLog
from accounts.services import create_key, revoke_key
from models_registry.services import register_version
from tests.models_registry.folders import make_folder
from tests.properties.examples import client, examples

pytestmark = pytest.mark.django_db

WORDS = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)
ROWS = st.lists(st.tuples(st.integers(-1000, 1000), WORDS), min_size=2, max_size=12)
ENDS = st.sampled_from(["\n", "\r\n"])


def as_csv(rows: list[tuple[int, str]], end: str) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator=end)
    writer.writerow(["number", "word"])
    writer.writerows(rows)
    return out.getvalue().encode()


def body_of(answer: Any) -> bytes:
    return b"".join(answer.streaming_content) if answer.streaming else answer.content


@examples(3)
@given(rows=ROWS, end=ENDS)
def test_a_dataset_is_downloaded_as_it_was_uploaded(
    owner: User, rows: list[tuple[int, str]], end: str
) -> None:
    content = as_csv(rows, end)
    name = f"d{hashlib.sha256(content).hexdigest()[:12]}"
    upload = SimpleUploadedFile("table.csv", content)
    made = client(owner).post(
        "/api/v1/datasets/", {"file": upload, "name": name}, format="multipart"
    )
    assert made.status_code in (200, 201), made.content
    assert made.json()["latest"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert made.json()["sample_count"] == len(rows)
    assert body_of(client(owner).get(f"/api/v1/datasets/{name}/download")) == content


@examples(5)
@given(value=st.floats(width=32, allow_nan=False), text=st.text(max_size=50))
def test_a_model_is_downloaded_as_it_was_registered(
    owner: User, tmp_path_factory: pytest.TempPathFactory, value: float, text: str
) -> None:
    folder = make_folder(tmp_path_factory.mktemp("model") / "model", value=value)
    (folder / "notes.txt").write_bytes(text.encode("utf-8", "replace"))
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    version = register_version(
        name="kept", folder=folder, owner=owner, task="classification", metrics={}, lineage={}
    )
    address = f"/api/v1/models/kept/versions/{version.number}/download"
    archive = zipfile.ZipFile(io.BytesIO(body_of(client(owner).get(address))))
    got = {Path(name).name: archive.read(name) for name in archive.namelist()}
    assert kept.items() <= got.items()


# --- Unknown ids ---------------------------------------------------------------------------


@cache
def detail_addresses() -> list[str]:
    """Every address of the schema that names one thing and can be read."""
    paths = SchemaGenerator().get_schema(request=None, public=True)["paths"]  # type: ignore[no-untyped-call]
    return sorted(path for path, known in paths.items() if "{" in path and "get" in known)


@examples(2)
@given(name=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True))
def test_an_unknown_id_is_404_wherever_it_stands(admin: User, name: str) -> None:
    addresses = detail_addresses()
    assert len(addresses) > 10
    for address in addresses:
        parts = [f"{name}x" if part.startswith("{") else part for part in address.split("/")]
        answer = client(admin).get("/".join(parts))
        assert answer.status_code == 404, ("/".join(parts), answer.content)
        body = answer.json()
        assert body["status"] == 404
        assert body["detail"]


# --- Every attempt to come in --------------------------------------------------------------

KINDS = ("good", "wrong", "malformed", "revoked", "two")


@examples(6)
@given(kinds=st.lists(st.sampled_from(KINDS), max_size=6))
def test_every_attempt_is_written_down_in_order(owner: User, kinds: list[str]) -> None:
    AuthLog.objects.all().delete()
    _, good = create_key(user=owner, name="good", role="viewer")
    gone, revoked = create_key(user=owner, name="gone", role="viewer")
    revoke_key(gone)
    credentials: dict[str, dict[str, str]] = {
        "good": {"authorization": f"Bearer {good}"},
        "wrong": {"x-api-key": good[:-1] + ("a" if good[-1] != "a" else "b")},
        "malformed": {"authorization": "Token nonsense"},
        "revoked": {"authorization": f"Bearer {revoked}"},
        "two": {"authorization": f"Bearer {good}", "x-api-key": revoked},
    }
    for kind in kinds:
        status = client().get("/api/v1/me", headers=credentials[kind]).status_code
        assert status == (200 if kind == "good" else 401)
    told = list(AuthLog.objects.order_by("id").values_list("success", "endpoint"))
    assert told == [(kind == "good", "/api/v1/me") for kind in kinds]
    everything = " ".join(map(str, AuthLog.objects.values_list()))
    assert good not in everything
    assert revoked not in everything
