"""Cloning a session: the configuration goes along, and where it came from is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from accounts.models import AuditEntry
from ml.config import parse_config
from sessions.comparison import find_differences
from sessions.models import TrainingSession
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def source(owner: User) -> TrainingSession:
    version = factories.dataset_version()
    config = parse_config({"dataset": str(version), "epochs": 7, "dropout": 0.3}).to_dict()
    return factories.session(
        owner=owner, name="first", dataset_version=version, config={**config, "session": "old"}
    )


def clone(user: User, source: TrainingSession, **changes: Any) -> Any:
    client = Client()
    client.force_login(user)
    path = f"/api/v1/sessions/{source.pk}/clone"
    return client.post(path, json.dumps(changes), content_type="application/json")


def test_a_clone_differs_in_what_was_asked_for_alone(
    teammate: User, source: TrainingSession
) -> None:
    answer = clone(teammate, source, learning_rate=0.0003)
    assert answer.status_code == 201, answer.content
    told = answer.json()
    assert (told["cloned_from"], told["name"], told["owner"]) == (source.pk, "first", "teammate")
    copy = TrainingSession.objects.get(pk=told["id"])
    [difference] = find_differences([source.config, copy.config])
    assert (difference.name, difference.values) == ("learning_rate", [0.001, 0.0003])


def test_a_clone_may_have_a_name_and_a_priority_of_its_own(
    owner: User, source: TrainingSession
) -> None:
    told = clone(owner, source, name="", priority=3).json()
    assert (told["name"], told["priority"]) == ("", 3)


def test_a_change_that_is_wrong_is_named_and_nothing_starts(
    owner: User, source: TrainingSession
) -> None:
    answer = clone(owner, source, epochs=0)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "epochs"
    assert TrainingSession.objects.count() == 1


def test_a_viewer_starts_nothing(stranger: User, source: TrainingSession) -> None:
    assert clone(stranger, source).status_code == 403


def test_the_audit_says_where_a_clone_came_from(owner: User, source: TrainingSession) -> None:
    clone(owner, source)
    entry = AuditEntry.objects.get(action="session.start")
    assert entry.after["cloned_from"] == source.pk


def test_a_clone_outlives_its_source(owner: User, source: TrainingSession) -> None:
    copy = clone(owner, source).json()["id"]
    source.job.delete()
    assert TrainingSession.objects.get(pk=copy).cloned_from is None


def test_a_field_that_one_recipe_lacks_is_a_difference() -> None:
    found = find_differences([{"epochs": 3, "dropout": 0.1}, {"epochs": 3}, {"epochs": 3}])
    assert [(one.name, one.values) for one in found] == [("dropout", [0.1, None, None])]
