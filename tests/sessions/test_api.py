"""REST of training sessions, for its owner, a teammate and a stranger."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from jobs.models import LogLine, State
from sessions.files import record_artifacts
from sessions.models import EpochMetric, MetricPoint
from tests import factories

pytestmark = pytest.mark.django_db
URL = "/api/v1/sessions/"
As = Callable[[User], Client]


@pytest.fixture
def signed_in() -> As:
    def sign_in(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return sign_in


def post(client: Client, path: str, body: Any = None) -> Any:
    return client.post(path, json.dumps(body), content_type="application/json")


def start(client: Client, **config: Any) -> Any:
    return post(client, URL, {"dataset": str(factories.dataset_version()), **config})


def raise_priority(client: Client, session_id: str) -> Any:
    return client.patch(f"{URL}{session_id}/", {"priority": 9}, content_type="application/json")


def test_a_session_is_started(signed_in: As, owner: User) -> None:
    answer = start(signed_in(owner), name="first", epochs=4)
    assert answer.status_code == 201, answer.content
    session = answer.json()
    assert (session["state"], session["name"], session["owner"]) == ("queued", "first", "owner")
    assert session["config"]["epochs"] == 4
    assert session["config"]["learning_rate"] == 0.001


def test_every_wrong_field_is_named_at_once(signed_in: As, owner: User) -> None:
    answer = start(signed_in(owner), epochs=0, learning_rat=1)
    assert answer.status_code == 422
    assert {error["field"] for error in answer.json()["errors"]} == {"epochs", "learning_rat"}


@pytest.mark.parametrize("body", [[], "text", None, 3])
def test_a_body_that_is_no_object_is_malformed(signed_in: As, owner: User, body: Any) -> None:
    assert post(signed_in(owner), URL, body).status_code == 400


def test_a_path_is_not_a_dataset(signed_in: As, owner: User) -> None:
    answer = start(signed_in(owner), dataset={"path": "/etc"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "dataset"


def test_the_server_gives_the_id(signed_in: As, owner: User) -> None:
    assert start(signed_in(owner), session="mine").status_code == 422


def test_an_unknown_dataset_is_not_found_at_once(signed_in: As, owner: User) -> None:
    answer = start(signed_in(owner), dataset="nothing")
    assert answer.status_code == 404
    assert "nothing" in answer.json()["detail"]


@pytest.mark.parametrize("name", ["..", "a/b/c", "load", "x" * 101, "\u202e"])
def test_a_name_must_be_fit_for_a_model(signed_in: As, owner: User, name: str) -> None:
    assert start(signed_in(owner), name=name).status_code == 422


def test_an_unknown_id_is_not_found(signed_in: As, owner: User) -> None:
    for path in ("nothing/", "nothing/metrics", "nothing/cancel", "%00/", "a%2Fb/"):
        client = signed_in(owner)
        answer = post(client, URL + path) if "cancel" in path else client.get(URL + path)
        assert answer.status_code in (400, 404)


def test_the_owner_cancels(signed_in: As, owner: User) -> None:
    session = factories.session(owner=owner)
    answer = post(signed_in(owner), f"{URL}{session.pk}/cancel")
    assert answer.json()["state"] == "cancelled"
    assert post(signed_in(owner), f"{URL}{session.pk}/cancel").status_code == 409


@pytest.mark.parametrize("action", ["cancel", "pause", "resume"])
def test_nobody_else_steers_it(
    signed_in: As, owner: User, teammate: User, stranger: User, action: str
) -> None:
    session = factories.session(owner=owner)
    for person in (teammate, stranger):
        assert post(signed_in(person), f"{URL}{session.pk}/{action}").status_code == 403
        assert signed_in(person).delete(f"{URL}{session.pk}/").status_code == 403


def test_an_admin_may(signed_in: As, owner: User, admin: User) -> None:
    session = factories.session(owner=owner)
    assert post(signed_in(admin), f"{URL}{session.pk}/cancel").status_code == 200


def test_everybody_reads_and_nobody_without_a_key(
    signed_in: As, owner: User, stranger: User
) -> None:
    session = factories.session(owner=owner)
    assert signed_in(stranger).get(f"{URL}{session.pk}/").status_code == 200
    assert Client().get(f"{URL}{session.pk}/").status_code == 401


def test_only_an_ended_session_is_deleted(signed_in: As, owner: User) -> None:
    waiting = factories.session(owner=owner)
    ended = factories.session(owner=owner, state=State.COMPLETED)
    ended.run_path.mkdir(parents=True)
    assert signed_in(owner).delete(f"{URL}{waiting.pk}/").status_code == 409
    assert signed_in(owner).delete(f"{URL}{ended.pk}/").status_code == 204
    assert not ended.run_path.exists()


def test_epochs_come_in_order(signed_in: As, owner: User) -> None:
    session = factories.session()
    for epoch in (2, 1, 3):
        EpochMetric.objects.create(session=session, epoch=epoch, loss=1 / epoch)
    client = signed_in(owner)
    rows = client.get(f"{URL}{session.pk}/metrics").json()["results"]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    newest = client.get(f"{URL}{session.pk}/metrics?latest=1").json()["results"]
    assert [row["epoch"] for row in newest] == [3]


def test_a_series_is_given_by_key(signed_in: As, owner: User) -> None:
    session = factories.session()
    for step in range(1, 11):
        MetricPoint.objects.create(session=session, key="loss", step=step, value=step)
    client = signed_in(owner)
    series = client.get(f"{URL}{session.pk}/series?keys=loss&after=8").json()["series"]
    assert len(series["loss"].pop("times")) == 2
    assert series == {"loss": {"steps": [9, 10], "values": [9, 10], "min": None, "max": None}}
    assert client.get(f"{URL}{session.pk}/series?max_points=-1").status_code == 422


def test_the_log_is_read_on(signed_in: As, owner: User) -> None:
    session = factories.session()
    for number in range(3):
        LogLine.objects.create(job=session.job, message=f"line\n{number}", level="warning")
    client = signed_in(owner)
    page = client.get(f"{URL}{session.pk}/logs?limit=2").json()
    assert [row["message"] for row in page["results"]] == ["line\n0", "line\n1"]
    rest = client.get(f"{URL}{session.pk}/logs?after={page['next_after']}").json()
    assert [row["message"] for row in rest["results"]] == ["line\n2"]
    assert client.get(f"{URL}{session.pk}/logs?level=error").json()["results"] == []
    text = client.get(f"{URL}{session.pk}/logs", headers={"Accept": "text/plain"})
    assert text.content.count(b"\n") == 3


def test_artifacts_are_listed_and_downloaded(signed_in: As, owner: User) -> None:
    session = factories.session(state=State.COMPLETED)
    journal = session.run_path / "attempt-1" / "events.jsonl"
    journal.parent.mkdir(parents=True)
    journal.write_text("{}\n")
    record_artifacts(session)
    client = signed_in(owner)
    listed = client.get(f"{URL}{session.pk}/artifacts/").json()["results"]
    assert [(row["name"], row["size_bytes"]) for row in listed] == [("attempt-1/events.jsonl", 3)]
    got = client.get(f"{URL}{session.pk}/artifacts/attempt-1/events.jsonl")
    assert b"".join(got.streaming_content) == b"{}\n"  # type: ignore[attr-defined]
    for name in ("../../db.sqlite3", "config.json", "attempt-1/../attempt-1/events.jsonl"):
        assert client.get(f"{URL}{session.pk}/artifacts/{name}").status_code == 404


def test_the_list_needs_few_queries(
    signed_in: As, owner: User, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(20):
        factories.session(owner=owner, produced=factories.model_version())
    client = signed_in(owner)
    with django_assert_max_num_queries(6):
        assert client.get(URL).json()["total"] == 20


def test_the_queue_is_told_in_its_order(signed_in: As, owner: User) -> None:
    first, urgent = factories.session(owner=owner), factories.session(owner=owner, priority=3)
    rows = signed_in(owner).get(f"{URL}queue").json()["results"]
    assert [row["id"] for row in rows] == [urgent.pk, first.pk]


def test_a_priority_is_changed_only_while_it_waits(signed_in: As, owner: User) -> None:
    client = signed_in(owner)
    waiting, ended = factories.session(owner=owner), factories.session(owner=owner, state="failed")
    assert raise_priority(client, waiting.pk).json()["priority"] == 9
    assert raise_priority(client, ended.pk).status_code == 409
