"""Properties of answers: JSON whatever is asked, configurations as they were asked for."""

from functools import cache
from typing import Any

import pytest
from django.contrib.auth.models import User
from drf_spectacular.generators import SchemaGenerator
from hypothesis import given
from hypothesis import strategies as st

from ml.config import describe
from sessions.models import TrainingSession
from tests import factories
from tests.properties.examples import client, examples

pytestmark = pytest.mark.django_db

FIELDS = describe()["network"]["fields"]
CHOICES = [field for field in FIELDS if field["kind"] == "choice"]
PARAMETERS = st.dictionaries(
    st.sampled_from(["skip", "limit", "ordering", "search", "state", "owner", "nothing"]),
    st.text(max_size=8) | st.integers().map(str),
    max_size=2,
)


@cache
def list_addresses() -> list[str]:
    """Every address of the schema that can be read and is a list of things."""
    paths = SchemaGenerator().get_schema(request=None, public=True)["paths"]  # type: ignore[no-untyped-call]
    return sorted(
        path
        for path, known in paths.items()
        if "{" not in path and "skip" in [each["name"] for each in _parameters(known)]
    )


def _parameters(known: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = known.get("get", {}).get("parameters", [])
    return found


@examples(12)
@given(parameters=PARAMETERS)
def test_every_list_answers_json_whatever_is_asked(admin: User, parameters: dict[str, str]) -> None:
    assert len(list_addresses()) > 5
    for address in list_addresses():
        answer = client(admin).get(address, parameters)
        body = answer.json()
        if answer.status_code == 200:
            assert answer["Content-Type"].startswith("application/json")
            continue
        assert answer["Content-Type"] == "application/problem+json", (address, parameters)
        assert answer.status_code in (400, 404, 422)
        assert body["status"] == answer.status_code
        assert body["detail"].endswith((".", "?"))
        assert body["code"].isidentifier()


@examples(15)
@given(
    epochs=st.integers(1, 1000),
    batch_size=st.integers(1, 512),
    learning_rate=st.floats(1e-6, 1.0, allow_subnormal=False),
    seed=st.integers(0, 2**31 - 1),
)
def test_a_session_keeps_its_configuration_as_it_was_asked_for(owner: User, **asked: float) -> None:
    if not TrainingSession.objects.exists():
        factories.session(dataset_version=factories.dataset_version(name="flowers"))
    answer = client(owner).post("/api/v1/sessions/", {"dataset": "flowers", **asked}, format="json")
    assert answer.status_code == 201, answer.content
    told = client(owner).get(f"/api/v1/sessions/{answer.json()['id']}").json()
    assert {name: told["config"][name] for name in asked} == asked
    assert told["total_epochs"] == asked["epochs"]
    assert told["config"].keys() >= {field["name"] for field in FIELDS} - {"name"}


@examples(15)
@given(field=st.sampled_from(CHOICES), value=st.from_regex(r"[a-z_]{1,12}", fullmatch=True))
def test_an_option_that_is_not_listed_is_refused_with_those_that_are(
    owner: User, field: dict[str, Any], value: str
) -> None:
    if value in field["choices"]:
        return
    if not TrainingSession.objects.exists():
        factories.session(dataset_version=factories.dataset_version(name="flowers"))
    answer = client(owner).post(
        "/api/v1/sessions/", {"dataset": "flowers", field["name"]: value}, format="json"
    )
    assert answer.status_code == 422
    [error] = [e for e in answer.json()["errors"] if e["field"] == field["name"]]
    assert all(str(choice) in error["message"] for choice in field["choices"])
