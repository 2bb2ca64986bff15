"""The page of models in memory: who takes how much, what is on its way, what keeps it."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from inference.models import LoadedModel, State
from inference.shelf import describe_devices, describe_row
from tests import factories

MEGABYTE = 10**6
LOAD, UNLOAD = "/models/loaded/load/", "/models/loaded/unload/"


def loaded(**values: Any) -> LoadedModel:
    return factories.loaded_model(**{"memory_bytes": 100 * MEGABYTE, **values})


@pytest.fixture
def door(owner: User) -> Client:
    client = Client(headers={"accept": "text/html"})
    client.force_login(owner)
    return client


def read(door: Client) -> str:
    return door.get("/models/loaded/").content.decode()


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


@pytest.mark.parametrize(
    ("stage", "done"), [("", 0), ("start", 1), ("verify", 2), ("load", 3), ("warm_up", 4)]
)
def test_loading_shows_how_far_it_is(door: Client, owner: User, stage: str, done: int) -> None:
    row = loaded(state=State.LOADING, stage=stage, memory_bytes=None)
    assert describe_row(row, owner).stages_done == done
    page = read(door)
    assert f'<progress max="4" value="{done}" aria-label="Loading of {row}">' in page
    assert 'data-poll="900"' in page


def test_nothing_on_its_way_is_looked_at_less_often(door: Client) -> None:
    loaded()
    assert 'data-poll="10000"' in read(door)


@pytest.mark.parametrize(
    ("is_pinned", "seconds", "words"),
    [
        (False, None, "while there is room"),
        (True, None, "always (pinned)"),
        (False, 300, "until unused for 5 min"),
        (False, 90, "until unused for 90 s"),
        (True, 7200, "pinned, until unused for 2 h"),
    ],
)
def test_what_keeps_a_model_is_said_and_chosen(
    door: Client, owner: User, is_pinned: bool, seconds: int | None, words: str
) -> None:
    row = loaded(owner=owner, is_pinned=is_pinned, keep_alive_seconds=seconds)
    [chosen] = [value for value, _, is_now in describe_row(row, owner).keeps if is_now]
    assert f'<option value="{chosen}" selected>{words}</option>' in read(door)
    LoadedModel.objects.update(is_pinned=False, keep_alive_seconds=1)
    door.post(LOAD, {"model": str(row), "keep": chosen})
    row.refresh_from_db()
    assert (row.is_pinned, row.keep_alive_seconds) == (is_pinned, seconds)


def test_a_model_is_kept_otherwise_without_being_loaded_otherwise(
    door: Client, owner: User
) -> None:
    row = loaded(owner=owner, device="cpu", optimization_level=0)
    assert 'name="optimization_level" value="0"' in read(door)
    door.post(LOAD, {"model": str(row), "optimization_level": "0", "keep": "pinned"})
    row.refresh_from_db()
    assert (row.is_pinned, row.optimization_level, row.state) == (True, 0, State.READY)


def test_a_failure_says_why_and_is_tried_again(door: Client, owner: User) -> None:
    row = loaded(owner=owner, state=State.FAILED, error="No runtime serves it.")
    assert "No runtime serves it." in read(door)
    assert "Load again" in read(door)
    door.post(LOAD, {"model": str(row), "keep": ""})
    row.refresh_from_db()
    assert (row.state, row.error) == (State.WAITING, "")


@pytest.mark.parametrize(
    "sent", [{"keep": "soon"}, {"keep": "0"}, {"device": "tpu"}, {"optimization_level": "9"}]
)
def test_nonsense_is_refused_by_name(door: Client, owner: User, sent: dict[str, str]) -> None:
    version = factories.model_version(owner=owner)
    answer = door.post(LOAD, {"model": str(version), **sent})
    assert answer.status_code == 422
    [name] = sent
    assert {"keep": "keep_alive_seconds"}.get(name, name) in answer.content.decode()
    assert not LoadedModel.objects.exists()


def test_the_page_loads_and_unloads(door: Client, owner: User) -> None:
    version = factories.model_version(name="digits", owner=owner)
    assert "<option>digits@1</option>" in read(door)
    answer = door.post(LOAD, {"model": "digits@1", "device": "cpu", "keep": "pinned"})
    assert answer["Location"] == "/models/loaded/"
    row = LoadedModel.objects.get(version=version)
    assert (row.is_wanted, row.is_pinned, row.device, row.owner) == (True, True, "cpu", owner)
    assert door.post(UNLOAD, {"model": "digits@1"}).status_code == 302
    row.refresh_from_db()
    assert not row.is_wanted


def test_what_does_not_exist_or_is_somebody_elses_is_refused(
    door: Client, owner: User, stranger: User
) -> None:
    row = loaded(owner=stranger)
    assert door.post(LOAD, {"model": "nobody"}).status_code == 404
    assert door.post(LOAD).status_code == 422
    assert door.post(LOAD, {"model": str(row), "keep": "pinned"}).status_code == 403
    assert door.post(UNLOAD, {"model": str(row)}).status_code == 403
    assert f'value="{row}"' not in read(door)


def test_a_viewer_may_look_but_not_load(db: None) -> None:
    client = Client(headers={"accept": "text/html"})
    client.force_login(factories.user(role="viewer"))
    row = loaded()
    assert "Operators may load models" in read(client)
    assert client.post(LOAD, {"model": str(row)}).status_code == 403


def test_programs_get_the_list_at_the_same_address(owner: User) -> None:
    row, program = loaded(), Client()
    program.force_login(owner)
    [told] = program.get("/models/loaded/").json()["results"]
    assert told["name"] == row.version.model.name
