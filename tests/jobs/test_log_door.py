"""The log of a job over HTTP: JSON for programs, text for terminals."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from jobs.models import LogLine
from tests import factories


@pytest.fixture
def desk(stranger: User) -> Client:
    client = Client()
    client.force_login(stranger)
    return client


@pytest.mark.parametrize("door", ["jobs", "sessions"])
def test_the_log_comes_as_text_or_as_json(desk: Client, door: str) -> None:
    session = factories.session()
    line = LogLine.objects.create(job=session.job, level="error", message="two\nlines – äöü")
    path = f"/api/v1/{door}/{session.pk}/logs"
    text = desk.get(path, headers={"Accept": "text/plain"})
    assert text["Content-Type"] == "text/plain; charset=utf-8"
    assert text.content.decode().endswith("ERROR   two\\nlines – äöü\n")
    for accept in ("*/*", "application/json"):
        page = desk.get(path, headers={"Accept": accept}).json()
        assert page["results"][0]["message"] == "two\nlines – äöü"
        assert page["next_after"] == line.pk


def test_an_error_stays_a_problem_whatever_is_accepted(desk: Client) -> None:
    answer = desk.get("/api/v1/jobs/none/logs", headers={"Accept": "text/plain"})
    assert answer.status_code == 404
    assert answer["Content-Type"] == "application/problem+json"
