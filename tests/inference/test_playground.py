"""The Playground's page: what is in memory, and the form that fits a model."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from pytest_django import Settings

from datasets.services import import_upload
from inference.models import LoadedModel, State
from inference.playground import describe_devices, describe_form
from models_registry.models import ModelVersion
from tests import factories

MEGABYTE = 10**6


def loaded(version: ModelVersion | None = None, **values: Any) -> LoadedModel:
    known = {"state": State.READY, "device": "cpu", "memory_bytes": 100 * MEGABYTE}
    return LoadedModel.objects.create(
        version=version or factories.model_version(), **{**known, **values}
    )


def taking(*tensors: tuple[str, str, list[int]], **values: Any) -> LoadedModel:
    inputs = [{"name": n, "datatype": kind, "shape": shape} for n, kind, shape in tensors]
    return loaded(signature={"inputs": inputs, "outputs": []}, **values)


@pytest.fixture
def door(owner: User) -> Client:
    client = Client(headers={"accept": "text/html"})
    client.force_login(owner)
    return client


def test_the_bar_shows_each_models_share_of_the_budget(settings: Settings, db: None) -> None:
    settings.MODEL_MEMORY_MB = 400
    first, second = loaded(), loaded(memory_bytes=200 * MEGABYTE)
    loaded(state=State.LOADING, memory_bytes=None)

    [device] = describe_devices(LoadedModel.objects.all())
    assert (device.budget_bytes, device.used_bytes) == (400 * MEGABYTE, 300 * MEGABYTE)
    assert [(part.label, part.start, part.width) for part in device.parts] == [
        (str(first), 0, 25),
        (str(second), 25, 50),
    ]


def test_a_gpu_that_cannot_be_read_has_no_bar_but_the_reason(settings: Settings, db: None) -> None:
    settings.MODEL_MEMORY_MB = None
    loaded(device="cuda:0")
    [device] = describe_devices(LoadedModel.objects.all())
    assert (device.budget_bytes, device.parts) == (None, [])
    assert "cuda:0" in device.reason


def test_columns_become_fields_with_the_first_row_of_what_it_learned_from(owner: User) -> None:
    rows = SimpleUploadedFile("f.csv", b"height,colour,label\n1.5,red,a\n2.5,blue,b\n")
    dataset = import_upload(owner=owner, name="flowers", upload=rows)
    version = factories.model_version(lineage={"dataset": str(dataset)})
    form = describe_form(
        taking(("height", "FP64", [-1]), ("colour", "BYTES", [-1]), version=version)
    )

    assert form.kind == "row"
    assert [(one.name, one.is_number, one.value) for one in form.fields] == [
        ("height", True, "1.5"),
        ("colour", False, "red"),
    ]
    assert form.classes == ["a", "b"]


@pytest.mark.parametrize("lineage", [{}, {"dataset": "gone@1"}, {"dataset": ["x"]}])
def test_without_its_dataset_the_fields_are_empty(lineage: dict[str, Any], db: None) -> None:
    version = factories.model_version(lineage=lineage)
    form = describe_form(taking(("height", "FP64", [-1]), version=version))
    assert [one.value for one in form.fields] == [""]


def test_a_model_that_writes_is_given_a_prompt(db: None) -> None:
    row = taking(("prompt", "BYTES", [-1]))
    assert row.signature is not None
    row.signature["context_length"] = 128
    assert describe_form(row).kind == "text"


def test_a_text_that_is_all_there_is_may_have_many_lines(db: None) -> None:
    [one] = describe_form(taking(("code", "BYTES", [-1]))).fields
    assert one.is_long


def test_an_image_is_drawn(db: None) -> None:
    form = describe_form(taking(("image", "FP32", [-1, 28, 30, 3])))
    assert form.kind == "image"
    wanted = {"height": 28, "width": 30, "channels": 3, "low": 0, "high": 255, "samples": []}
    assert wanted.items() <= form.image.items()


@pytest.mark.parametrize(
    ("tensor", "example"),
    [
        (("x", "FP32", [-1, 3]), {"x": [[0, 0, 0]]}),
        (("x", "BYTES", [2]), {"x": ["", ""]}),
        (("x", "FP32", [-1, 3, 512, 512]), {"x": []}),
    ],
)
def test_other_tensors_are_json(tensor: Any, example: Any, db: None) -> None:
    form = describe_form(taking(tensor))
    assert (form.kind, form.example) == ("tensors", example)


def test_the_page_loads_and_unloads(door: Client, owner: User) -> None:
    version = factories.model_version(name="digits", owner=owner)
    assert "digits@1" in door.get("/playground/").content.decode()
    answer = door.post("/playground/load/", {"model": "digits@1", "pinned": "on"})
    assert answer["Location"] == "/playground/?model=digits%401"
    row = LoadedModel.objects.get(version=version)
    assert (row.is_wanted, row.is_pinned, row.owner) == (True, True, owner)
    assert "follows it" in door.get(answer["Location"]).content.decode()

    assert door.post("/playground/unload/", {"model": "digits@1"}).status_code == 302
    row.refresh_from_db()
    assert not row.is_wanted


def test_what_does_not_exist_or_is_somebody_elses_is_refused(
    door: Client, owner: User, stranger: User
) -> None:
    row = taking(("height", "FP64", [-1]), owner=stranger)
    assert door.post("/playground/load/", {"model": "nobody"}).status_code == 404
    assert door.post("/playground/load/").status_code == 404
    assert door.post("/playground/unload/", {"model": str(row)}).status_code == 403
    assert f'value="{row}"' not in door.get("/playground/").content.decode()


def test_a_viewer_may_look_and_ask_but_not_load(db: None) -> None:
    client = Client(headers={"accept": "text/html"})
    client.force_login(factories.user(role="viewer"))
    taking(("height", "FP64", [-1]))
    page = client.get("/playground/").content.decode()
    assert "Operators may load models" in page
    assert 'id="ask"' in page
    assert client.post("/playground/load/", {"model": "x"}).status_code == 403
