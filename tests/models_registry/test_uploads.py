"""Bringing a model by the API, the page and the command: what is kept, who may, what is left."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test import Client
from pytest_django import Settings

from accounts.models import AuditEntry
from models_registry.models import ModelVersion, RegisteredModel
from models_registry.services import find_version
from tests.ml.serve.deadly import crasher_bytes
from tests.models_registry.brought import Files, onnx_bytes, pack_zip, t5_folder, write
from tests.models_registry.exported import exported_bytes
from tests.models_registry.test_api import door
from tests.models_registry.test_real_model import train_iris

pytestmark = pytest.mark.django_db


def post(user: User, name: str, files: Files, **fields: str) -> Any:
    sent = [SimpleUploadedFile(each, content) for each, content in files.items()]
    return door(user).post("/api/v1/models/", {"name": name, "file": sent, **fields})


def left_behind() -> list[Path]:
    root = Path(django_settings.MODELS_DIR)
    return [path for path in root.rglob("*") if path.is_file()]


def test_a_model_is_kept_with_what_is_known_of_it(owner: User) -> None:
    response = post(owner, "Salesforce/codet5-small", {"t5.zip": pack_zip(t5_folder())})

    assert response.status_code == 201, response.content
    version = response.json()
    assert (version["model"], version["version"]) == ("Salesforce--codet5-small", 1)
    assert (version["framework"], version["task"]) == ("transformers", "text2text")
    assert version["lineage"]["upload"] == "t5.zip"
    assert version["card"] == "# A small one"
    assert sorted(file["path"] for file in version["files"]) == sorted(t5_folder())
    assert find_version("Salesforce/codet5-small").number == 1
    assert AuditEntry.objects.filter(action="model_version.register").exists()


def test_the_files_of_a_folder_may_come_one_by_one(owner: User) -> None:
    response = post(owner, "t5", t5_folder(), description="small")

    assert response.status_code == 201, response.content
    assert RegisteredModel.objects.get().description == "small"


def test_the_same_files_make_no_second_version(owner: User) -> None:
    codes = [post(owner, "relu", {"m.onnx": onnx_bytes()}).status_code for _ in range(2)]
    changed = post(owner, "relu", {"m.onnx": onnx_bytes() + b"\x32\x01x"}).json()

    assert codes == [201, 200]
    assert changed["version"] == 2


def test_a_refusal_says_why_and_leaves_nothing(owner: User) -> None:
    pickle = b"\x80\x04\x95" + b"x" * 100
    response = post(owner, "evil", {"pytorch_model.bin": pickle})

    assert response.status_code == 422
    assert response.json()["code"] == "pickle"
    assert "safetensors" in response.json()["detail"]
    assert not RegisteredModel.objects.exists()
    assert not left_behind()


def test_a_name_of_somebody_else_is_not_taken(owner: User, teammate: User, admin: User) -> None:
    post(owner, "relu", {"m.onnx": onnx_bytes()})

    refused = post(teammate, "relu", {"m.onnx": onnx_bytes()})
    assert refused.status_code == 403
    assert "belongs to owner" in refused.json()["detail"]

    added = post(admin, "relu", {"m.onnx": onnx_bytes() + b"\x32\x01x"})
    assert (added.status_code, added.json()["created_by"]) == (201, "admin")
    assert RegisteredModel.objects.get().owner == owner


def test_viewers_and_strangers_bring_nothing(stranger: User) -> None:
    assert post(stranger, "relu", {"m.onnx": onnx_bytes()}).status_code == 403
    sent = {"name": "x", "file": SimpleUploadedFile("m.onnx", onnx_bytes())}
    assert Client().post("/api/v1/models/", sent).status_code == 401


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"name": "../x"}, "name"), ({"name": "load"}, "name"), ({"nmae": "x"}, "nmae"), ({}, "name")],
)
def test_a_wrong_field_is_named(owner: User, fields: dict[str, str], field: str) -> None:
    sent = {**fields, "file": SimpleUploadedFile("m.onnx", onnx_bytes())}
    response = door(owner).post("/api/v1/models/", sent)

    assert response.status_code == 422
    assert field in {error["field"] for error in response.json()["errors"]}


def test_a_model_that_is_too_large_is_refused(owner: User, settings: Settings) -> None:
    settings.MAX_UPLOAD_SIZE = 100
    response = post(owner, "t5", t5_folder())

    assert response.status_code == 413
    assert not left_behind()


def test_an_exported_program_is_kept_with_its_signature(owner: User) -> None:
    response = post(owner, "net", {"net.pt2": exported_bytes(), "README.md": b"# Net"})

    assert response.status_code == 201, response.content
    version = response.json()
    assert (version["framework"], version["card"]) == ("torch.export", "# Net")
    assert version["signature"] == {
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["s0", 4]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["s0", 3]}],
    }
    assert version["lineage"]["torch_version"] == "2.11.0"
    assert [file["path"] for file in version["files"]] == ["README.md", "model.pt2"]


def test_a_program_that_does_not_run_is_refused_at_once(owner: User) -> None:
    def unequal(program: Any) -> None:
        sizes = program["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
        sizes[1] = {"as_int": 5}

    response = post(owner, "net", {"net.pt2": exported_bytes(unequal)})

    assert response.status_code == 422
    assert "cannot run" in response.json()["detail"]
    assert not left_behind()


def test_a_program_that_crashes_when_it_is_tried_is_refused(owner: User) -> None:
    response = post(owner, "net", {"net.pt2": crasher_bytes(deadly=2**40)})

    assert response.status_code == 422
    assert "SIGSEGV" in response.json()["detail"]
    assert not left_behind()


def test_the_page_brings_a_model_and_says_why_not(owner: User) -> None:
    client = Client(headers={"accept": "text/html"})
    client.force_login(owner)
    sent = {"name": "relu", "file": SimpleUploadedFile("m.onnx", onnx_bytes())}
    assert client.post("/models/upload/", sent)["Location"] == "/models/relu/"
    assert ModelVersion.objects.get().framework == "onnx"
    assert "onnxruntime" in client.get("/models/relu/").content.decode()

    wrong = {"name": "relu", "file": SimpleUploadedFile("m.onnx", b"nothing")}
    refused = client.post("/models/upload/", wrong)
    assert refused.status_code == 422
    assert "no ONNX model" in refused.content.decode()


def test_the_command_takes_a_folder(admin: User, tmp_path: Path) -> None:
    folder = write(tmp_path / "t5", t5_folder())
    out = StringIO()

    call_command("import_model", str(folder), "--name", "org/t5", "--json", stdout=out)

    facts = json.loads(out.getvalue())
    assert (facts["model"], facts["version"], facts["is_new"]) == ("org--t5", 1, True)
    call_command("import_model", str(folder), "--name", "org/t5", stdout=out)
    assert "org--t5@1 already" in out.getvalue()


def test_the_command_says_what_is_wrong(admin: User, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("import_model", str(tmp_path / "none"), "--name", "x")
    (tmp_path / "m.pkl").write_bytes(b"\x80\x04N.")
    with pytest.raises(CommandError, match="pickle"):
        call_command("import_model", str(tmp_path / "m.pkl"), "--name", "x")


def test_a_network_of_this_server_comes_back_as_it_was(owner: User, tmp_path: Path) -> None:
    trained = train_iris(tmp_path).model_path
    files = {path.name: path.read_bytes() for path in trained.iterdir()}
    files["model.py"] = b"import os; os.system('evil')"

    response = post(owner, "again", {"again.zip": pack_zip(files)})

    assert response.status_code == 201, response.content
    version = ModelVersion.objects.get()
    assert (version.framework, version.task) == ("pytorch", "classification")
    assert version.lineage["classes"] == ["setosa", "versicolor", "virginica"]
    own = (trained / "model.py").read_bytes()
    assert (version.folder / "model.py").read_bytes() == own
