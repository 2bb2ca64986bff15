"""Starting the recipes that teach language models: what is checked before anything waits."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from mlserver.lib.errors import Conflict, Invalid
from models_registry.removal import delete_model, delete_version, list_deleted
from sessions.run_config import run_config
from sessions.services import cancel_session, start_session
from tests import factories

pytestmark = pytest.mark.django_db


def columns(*names: str) -> dict[str, Any]:
    return {"columns": [{"name": name, "type": "string"} for name in names], "target": names[-1]}


def start(
    owner: User, recipe: str, schema: dict[str, Any], kind: str = "table", **fields: Any
) -> Any:
    version = factories.dataset_version(schema=schema, kind=kind)
    return start_session(owner=owner, config={"recipe": recipe, "dataset": str(version), **fields})


def refused(*args: Any, **fields: Any) -> tuple[str, str]:
    with pytest.raises(Invalid) as caught:
        start(*args, **fields)
    [error] = caught.value.errors
    return error.field, error.message


def test_a_base_model_is_pinned_to_its_version_and_becomes_a_folder(owner: User) -> None:
    base = factories.base_model(name="org--small")
    session = start(owner, "causal", columns("text"), "text", base_model="org/small")
    factories.base_model(name="org--small")  # a newer one must not take its place
    assert session.config["base_model"] == session.base_model == "org--small@1"
    config = run_config(session.pk, session.config, session.dataset_version)
    assert config["base_model"] == {"path": str(base.folder), "name": "org--small", "version": 1}


def test_from_scratch_needs_no_base(owner: User) -> None:
    session = start(owner, "causal", columns("text"), "text", from_scratch=True)
    assert session.base_model == ""
    config = run_config(session.pk, session.config, session.dataset_version)
    assert config["base_model"] is None


def test_the_hub_is_asked_only_where_it_may_be(owner: User, settings: Settings) -> None:
    settings.HF_HUB_OFFLINE = True
    field, message = refused(owner, "causal", columns("text"), "text", base_model="gpt2")
    assert field == "base_model"
    assert "Register its Hugging Face folder" in message
    settings.HF_HUB_OFFLINE = False
    session = start(owner, "causal", columns("text"), "text", base_model="gpt2")
    config = run_config(session.pk, session.config, session.dataset_version)
    assert config["base_model"] == session.base_model == "gpt2"
    field, message = refused(owner, "causal", columns("text"), "text", base_model="../gpt2")
    assert "is no name of the Hugging Face hub either" in message


def test_a_base_is_kept_while_a_session_needs_it(owner: User) -> None:
    base = factories.base_model(name="small", owner=owner)
    session = start(owner, "causal", columns("text"), "text", base_model="small")
    with pytest.raises(Conflict, match=f"{session.pk} learns from it"):
        delete_version(base, owner)
    with pytest.raises(Conflict, match=session.pk):
        delete_model(base.model, owner)
    assert list_deleted() == []
    cancel_session(session, owner)
    base.folder.mkdir(parents=True)
    delete_version(base, owner)


def test_a_version_that_is_no_language_model_is_no_base(owner: User) -> None:
    factories.model_version(name="digits", files=[{"path": "model.safetensors"}])
    field, message = refused(owner, "causal", columns("text"), "text", base_model="digits")
    assert field == "base_model"
    assert "it lacks config.json and a tokenizer" in message


def test_a_path_is_not_a_base_model(owner: User) -> None:
    base = {"path": "/etc"}
    field, _ = refused(owner, "causal", columns("text"), "text", base_model=base)
    assert field == "base_model"


@pytest.mark.parametrize(
    ("recipe", "schema", "kind", "field"),
    [
        ("text2text", columns("a", "b"), "table", "input_column"),
        ("causal", columns("a", "b"), "table", "text_column"),
        ("classify", columns("a", "b"), "table", "text_column"),
        ("classify", columns("text"), "text", "dataset"),
        ("causal", {}, "image", "dataset"),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused_at_once(
    owner: User, recipe: str, schema: dict[str, Any], kind: str, field: str
) -> None:
    assert refused(owner, recipe, schema, kind, from_scratch=True)[0] == field
