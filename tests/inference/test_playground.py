"""The Playground's page: the form that fits a model, and models side by side."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from datasets.services import import_upload
from inference.models import LoadedModel, State
from inference.playground import describe_form
from tests import factories


def taking(*tensors: tuple[str, str, list[int]], **values: Any) -> LoadedModel:
    inputs = [{"name": n, "datatype": kind, "shape": shape} for n, kind, shape in tensors]
    signature = {"inputs": inputs, "outputs": []}
    return factories.loaded_model(**{"state": State.READY, "signature": signature, **values})


@pytest.fixture
def door(owner: User) -> Client:
    client = Client(headers={"accept": "text/html"})
    client.force_login(owner)
    return client


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


def shown(door: Client, *names: str) -> str:
    answer = door.get("/playground/", {"model": names})
    assert answer.status_code == 200
    return answer.content.decode()


def test_models_that_take_the_same_stand_side_by_side(door: Client) -> None:
    one, two, three = (taking(("height", "FP64", [-1])) for _ in range(3))
    other = taking(("width", "FP64", [-1]))
    page = shown(door, str(one), str(two), str(three))
    assert all(f'data-model="{each}"' in page for each in (one, two, three))
    # Who is picked beside the first takes what it takes.
    first, *others = page.split("<select name=")[1:]
    assert f">{other}<" in first
    assert not any(f">{other}<" in each for each in others)
    page = shown(door, str(one), str(other))
    assert f"{other} takes other inputs than {one}" in page
    assert f'data-model="{other}"' not in page


def test_a_model_named_twice_is_one_column_and_a_fourth_none(door: Client) -> None:
    rows = [taking(("height", "FP64", [-1])) for _ in range(4)]
    name = rows[0].version.model.name
    assert shown(door, name, f"{name}@1", "").count("data-model=") == 1
    assert shown(door, *map(str, rows)).count("data-model=") == 3


def test_models_that_write_are_alike_however_long_their_context(door: Client) -> None:
    rows = [taking(("prompt", "BYTES", [-1])) for _ in range(2)]
    for row, length in zip(rows, (128, 4096), strict=True):
        assert row.signature is not None
        row.signature["context_length"] = length
        row.save()
    page = shown(door, *map(str, rows))
    assert "128 tokens of prompt" in page
    assert "4,096 tokens of prompt" in page


def test_the_names_of_classes_are_those_that_the_worker_tells(door: Client) -> None:
    row = taking(("height", "FP64", [-1]))
    row.signature = {"inputs": [], "outputs": [], "classes": ["</script>", 7]}
    row.save()
    page = shown(door)
    assert '"classes": ["\\u003C/script\\u003E", 7]' in page


def test_a_model_that_is_not_in_memory_may_be_loaded_and_followed(
    door: Client, owner: User
) -> None:
    beside = taking(("height", "FP64", [-1]))
    version = factories.model_version(name="digits", owner=owner)
    asked = [str(beside), "digits@1"]
    page = shown(door, *asked)
    assert "digits@1 is not in memory" in page
    assert f'data-model="{beside}"' in page
    answer = door.post("/models/loaded/load/", {"model": "digits@1", "show": asked})
    assert (
        answer["Location"]
        == f"/playground/?model={str(beside).replace('@', '%40')}&model=digits%401"
    )
    assert "this page follows it" in door.get(answer["Location"]).content.decode()
    LoadedModel.objects.filter(version=version).update(state=State.FAILED, error="Too much.")
    page = door.get(answer["Location"]).content.decode()
    assert "could not be loaded. Too much." in page
    assert 'data-poll="900"' not in page


def test_a_viewer_may_ask_but_not_load(db: None) -> None:
    client = Client(headers={"accept": "text/html"})
    client.force_login(factories.user(role="viewer"))
    taking(("height", "FP64", [-1]))
    assert 'id="ask"' in shown(client)
    page = shown(client, factories.model_version().model.name)
    assert "Operators may load models" in page
