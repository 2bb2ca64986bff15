"""The page New training: what it says before anything starts, and the clone with its diff."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from datasets.services import register_builtin
from jobs.models import State
from ml.config import RECIPES, describe, parse_config
from sessions import new_training
from sessions.models import TrainingSession
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(owner: User) -> Client:
    register_builtin("iris")
    client = Client(headers={"accept": "text/html"})
    client.force_login(owner)
    return client


@pytest.fixture
def source(owner: User, client: Client) -> TrainingSession:
    version = register_builtin("wine")
    config = parse_config({"dataset": "wine@1", "epochs": 7, "dropout": 0.3}).to_dict()
    return factories.session(
        owner=owner, name="first", dataset_version=version, config=config, state=State.COMPLETED
    )


def read(client: Client, path: str, **typed: Any) -> str:
    answer = client.get(path, typed)
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_page_says_what_a_training_takes(client: Client) -> None:
    page = read(client, "/sessions/new/", dataset="iris@1", epochs="3", device="cpu")
    assert "120 to learn, 30 to measure" in page
    assert "4 an epoch, 12 in all" in page
    assert "4,675 weights" in page
    assert "No session of recipe network was completed" in page
    assert "starts at once" in page
    assert not TrainingSession.objects.exists()


def test_every_error_stands_under_its_field_while_typing(client: Client) -> None:
    page = read(client, "/sessions/new/", dataset="iris@1", epochs="0", name="a/b/c")
    for field in ("epochs", "name"):
        hint = page.split(f'id="h-{field}"')[1].split("</div>")[0]
        assert 'class="error"' in hint, field
    assert "Not started." not in page  # nobody asked to start it


def test_a_look_shows_samples_as_the_model_sees_them(client: Client) -> None:
    page = read(client, "/sessions/new/", dataset="iris@1", device="cpu", look="1")
    assert "setosa (class 0)" in page
    assert "classification with mlp" in page


def test_data_that_cannot_be_learned_from_is_an_error_of_the_dataset(client: Client) -> None:
    register_builtin("diabetes")
    typed = {"task": "classification", "loss_function": "bce", "look": "1"}
    page = read(client, "/sessions/new/", dataset="diabetes@1", **typed)
    hint = page.split('id="h-dataset"')[1].split("</div>")[0]
    assert "classes" in hint


def test_a_clone_shows_what_differs_and_keeps_its_source(
    client: Client, source: TrainingSession
) -> None:
    page = read(client, "/sessions/new/", **{"from": source.pk})
    assert "Nothing: it would train the same again." in page
    typed = {"from": source.pk, "dataset": "wine@1", "epochs": "9", "dropout": "0.3"}
    page = read(client, "/sessions/new/", **typed)
    table = page.split("Differs from first")[1].split("</table>")[0]
    assert "<code>epochs</code>" in table
    assert "<code>dropout</code>" not in table
    assert f"/api/v1/sessions/{source.pk}/clone" in page
    client.post("/sessions/new/", typed)
    assert TrainingSession.objects.get(config__epochs=9).cloned_from == source


def test_the_page_of_a_clone_shows_what_differs(
    client: Client, owner: User, source: TrainingSession
) -> None:
    clone = factories.session(
        owner=owner, config={**source.config, "seed": 4}, cloned_from=source, state=State.COMPLETED
    )
    page = read(client, f"/sessions/{clone.pk}/")
    assert "Differs from first" in page
    assert "<code>seed</code>" in page


def test_a_source_that_is_gone_is_said(client: Client) -> None:
    answer = client.get("/sessions/new/", {"from": "train_none"})
    assert answer.status_code == 404
    assert "to clone" in answer.content.decode()


def test_what_a_dry_run_measured_stands_on_the_page(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = {
        "steps": 12,
        "seconds_per_step": 0.025,
        "start_seconds": 2.0,
        "peak_memory_bytes": 400 * 2**20,
        "peak_gpu_memory_bytes": None,
        "projected_seconds": 75.0,
        "error": None,
    }
    monkeypatch.setattr(new_training, "dry_run", lambda *given: measured)
    answer = client.post("/sessions/new/try/", {"dataset": "iris@1", "device": "cpu"})
    page = answer.content.decode()
    assert "Dry run of 12 steps: 0.0250 s a step, 400 MiB of memory" in page
    assert "1 min 15 s" in page


def test_a_dry_run_beside_a_training_is_refused_on_the_page(client: Client, settings: Any) -> None:
    settings.MAX_CONCURRENT_SESSIONS = 1
    factories.job(state=State.RUNNING)
    page = client.post("/sessions/new/try/", {"dataset": "iris@1"}).content.decode()
    assert "Every seat is taken" in page


def test_a_viewer_tries_nothing(stranger: User) -> None:
    client = Client(headers={"accept": "text/html"})
    client.force_login(stranger)
    assert client.post("/sessions/new/try/", {"dataset": "iris@1"}).status_code == 403


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_shows_its_own_fields_and_starts_from_the_page(
    client: Client, recipe: str
) -> None:
    page = read(client, "/sessions/new/", recipe=recipe)
    shown = {field["name"] for field in describe()[recipe]["fields"]} - {"session"}
    drawn = set(re.findall(r'<(?:input|select|button) [^>]*name="([a-z_0-9]+)"', page))
    assert shown - drawn <= {"epochs", "checkpoint_every"}  # features has no epochs to choose
    assert drawn - shown <= {"csrfmiddlewaretoken", "name", "priority", "look", "from"}
    typed = {"recipe": recipe, "dataset": f"{words()}@1", "from_scratch": "true"}
    answer = client.post("/sessions/new/", {**typed, "prefix": "Fix: "})
    assert answer.status_code == 302, answer.content.decode()
    session = TrainingSession.objects.get(recipe=recipe)
    assert session.config.get("from_scratch", True) is True
    assert session.config.get("prefix", "Fix: ") == "Fix: "
    clone = read(client, "/sessions/new/", **{"from": session.pk})
    assert f"<option selected>{recipe}</option>" in clone


def words() -> str:
    """A dataset that every recipe could learn from."""
    columns = [{"name": name, "type": "string"} for name in ("text", "input", "output", "label")]
    schema = {"columns": columns, "target": "label", "classes": ["a", "b"]}
    return factories.dataset_version(schema=schema).dataset.name
