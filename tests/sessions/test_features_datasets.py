"""What recipe `features` cannot learn from is refused before it waits in the queue."""

from typing import Any

import pytest
from django.contrib.auth.models import User

from sessions.services import ConfigInvalid, start_session
from tests import factories


def start(owner: User, **fields: Any) -> Any:
    return start_session(owner=owner, config={"recipe": "features", **fields})


def test_a_table_is_taken(owner: User) -> None:
    version = factories.dataset_version(name="rooms")
    session = start(owner, dataset="rooms", algorithm="random_forest")
    assert (session.dataset_version, session.total_epochs) == (version, 1)


def test_images_are_refused(owner: User) -> None:
    factories.dataset_version(name="shades", kind="image")
    with pytest.raises(
        ConfigInvalid, match="learns from tables, texts and code; shades@1 is image"
    ):
        start(owner, dataset="shades")


@pytest.mark.parametrize("field", ["target", "text_column"])
def test_a_column_that_is_not_there_is_refused(owner: User, field: str) -> None:
    factories.dataset_version(name="rooms")
    with pytest.raises(ConfigInvalid, match=f"{field} 'price' is no column of rooms@1"):
        start(owner, dataset="rooms", **{field: "price"})


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"algorithm": "ridge", "task": "classification"}, "ridge does not fit task classif"),
        ({"input": "table", "text_column": "x"}, "text_column has no effect on input table"),
        ({"epochs": 2}, "epochs must be at most 1"),
        ({"learning_rate": 0.1}, "unknown field 'learning_rate'"),
    ],
)
def test_fields_that_do_not_fit_are_refused(
    owner: User, fields: dict[str, Any], sentence: str
) -> None:
    factories.dataset_version(name="rooms")
    with pytest.raises(ConfigInvalid, match=sentence):
        start(owner, dataset="rooms", **fields)
