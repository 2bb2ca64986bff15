"""Loading and predicting over HTTP: answers, refusals, and who may."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from accounts.models import AuditEntry
from inference.models import LoadedModel, State
from inference.services import Wish, find_ready, load_model
from mlserver.lib.errors import NoSpace
from tests.inference.conftest import Ticking, register_onnx


def door(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def send(user: User, path: str, body: Any = None) -> Any:
    data = b"" if body is None else orjson.dumps(body)
    return door(user).post(f"/api/v1{path}", data, "application/json")


def load(manager: Ticking, name: str, by: User) -> LoadedModel:
    return manager.until_state(load_model(name, by, Wish()), State.READY)


def test_load_and_unload(manager: Ticking, owner: User, stranger: User) -> None:
    register_onnx("small")
    wish = {"model_name": "small", "pinned": True, "wait_seconds": 0}
    answer = send(owner, "/models/load", wish)
    assert (answer.status_code, answer.json()["state"]) == (202, "waiting")
    manager.until_state(LoadedModel.objects.get(), State.READY)

    answer = send(owner, "/models/load", wish)
    assert answer.status_code == 200
    assert answer.json()["memory_mb"] > 10
    [listed] = door(stranger).get("/api/v1/models/loaded").json()["results"]
    assert (listed["name"], listed["version"], listed["pinned"]) == ("small", 1, True)
    assert listed["signature"]["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]

    assert send(owner, "/models/small/unload").status_code == 202
    manager.until(lambda: not LoadedModel.objects.exists())
    actions = set(AuditEntry.objects.values_list("action", flat=True))
    assert {"model.load", "model.unload"} <= actions


def test_a_model_that_is_not_loaded_is_a_conflict_that_says_how(db: None, owner: User) -> None:
    register_onnx("small")
    answer = send(owner, "/models/small/unload")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_loaded")
    assert "models/load" in answer.json()["detail"]
    assert send(owner, "/models/nobody/unload").status_code == 404


def test_no_room_is_507_with_the_numbers(manager: Ticking, owner: User, settings: Settings) -> None:
    settings.MODEL_MEMORY_MB = 1
    register_onnx("small")
    manager.until_state(load_model("small", owner, Wish()), State.FAILED)
    with pytest.raises(NoSpace, match="of 1 MB"):
        find_ready("small")


def test_without_a_manager_loading_is_503_at_once(
    owner: User, settings: Settings, tmp_path: Path
) -> None:
    settings.VAR_DIR = tmp_path
    register_onnx("small")
    answer = send(owner, "/models/load", {"model_name": "small"})
    assert (answer.status_code, answer.json()["code"]) == (503, "manager_away")
    assert "run_inference" in answer.json()["detail"]


def test_viewers_do_not_load_and_only_who_loaded_unloads(
    manager: Ticking, owner: User, teammate: User, stranger: User, admin: User
) -> None:
    register_onnx("small")
    assert send(stranger, "/models/load", {"model_name": "small"}).status_code == 403
    load(manager, "small", owner)
    assert send(teammate, "/models/small/unload").status_code == 403
    assert send(admin, "/models/small/unload").status_code == 202


def test_a_loaded_model_is_not_loaded_otherwise(manager: Ticking, owner: User) -> None:
    register_onnx("small")
    load(manager, "small", owner)
    answer = send(owner, "/models/load", {"model_name": "small", "optimization_level": 0})
    assert answer.status_code == 409
    assert "unload it first" in answer.json()["detail"]


@pytest.mark.parametrize(
    "wish",
    [{"device": "tpu"}, {"optimization_level": 3}, {"pruning": 0.5}, {"keep_alive_seconds": 0}],
)
def test_a_wish_that_cannot_be_is_422(db: None, owner: User, wish: dict[str, Any]) -> None:
    register_onnx("small")
    assert send(owner, "/models/load", {"model_name": "small", **wish}).status_code == 422
    assert not LoadedModel.objects.exists()


def test_the_list_takes_as_many_queries_however_many_there_are(
    db: None, owner: User, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(5):
        register_onnx(f"small{number}")
        load_model(f"small{number}", owner, Wish())
    client = door(owner)
    with django_assert_max_num_queries(6):
        assert client.get("/api/v1/models/loaded").json()["total"] == 5
