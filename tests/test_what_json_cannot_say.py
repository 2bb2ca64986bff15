"""Depth, huge numbers, infinities, halves of surrogate pairs, NUL: asked for, or written by a
trainer. No answer is a 5xx."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from jobs.leases import Lease
from jobs.models import Job, LogLine, State
from ml.rundir import RunDir, read_json
from ml.storable import DEEPEST, read_storable, storable
from mlserver.api.json import dumps
from mlserver.lib.sse import encode_event
from monitoring.feed import Feed
from sessions.ingest import ingest
from sessions.models import EpochMetric
from tests import factories
from tests.accounts.test_every_route import routes

HALF = "half of \ud83d a pair\0"
WHOLE = "half of \N{REPLACEMENT CHARACTER} a pair\N{REPLACEMENT CHARACTER}"
HUGE = 10**40
DEEP = "[" * 5000 + "]" * 5000
NUMBERS = (
    "0",
    "-1",
    "1e9",
    "9" * 400,
    "NaN",
    "Infinity",
    "1.5",
    "",
    "\0",
    "\N{ARABIC-INDIC DIGIT ONE}",
)
ODD_LINES = [
    {"type": "log", "message": HALF, "level": HALF},
    {"type": "warning", "message": 7},
    {"type": HALF},
    {"type": "step", "step": 1, "loss": float("inf"), "learning_rate": float("nan")},
    {"type": "step", "step": HUGE, "loss": 1.0},
    {"type": "step", "step": "two", "loss": 1.0},
    {"type": "step", "step": 3, "loss": "low"},
    {"type": "step", "step": 4, "loss": HUGE},
    {"type": "epoch", "epoch": 1, "loss": 0.5, "extra": {HALF: [HALF, HUGE, float("-inf")]}},
    {"type": "epoch", "epoch": -1, "loss": 0.5},
    {"type": "epoch", "epoch": 2, "loss": float("inf"), "at": "2026-99-99T00:00:00Z"},
    {"type": "started", "history": [7], "total_steps": 1, "total_epochs": 1},
    {"type": "sample", "epoch": 1, "samples": [{"output": HALF}]},
    {"type": "completed", "metrics": {HALF: HUGE}},
    7,
]


@pytest.fixture
def client(admin: User) -> Client:
    client = Client()
    client.force_login(admin)
    return client


def test_what_cannot_be_stored_is_replaced() -> None:
    odd = {HALF: [HALF, HUGE, -HUGE, 10**400, float("nan"), {"deep": [True, None, 2**62]}]}
    kept = {WHOLE: [WHOLE, 1e40, -1e40, None, None, {"deep": [True, None, 2**62]}]}
    assert storable(odd) == kept
    assert read_storable(json.dumps(odd)) == kept
    assert json.loads(dumps(odd)) == kept


@pytest.mark.parametrize("text", [DEEP, "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "{"])
def test_what_is_too_deep_is_no_json(text: str) -> None:
    with pytest.raises(ValueError, match=r"deep|Expecting"):
        read_storable(text)


@pytest.mark.django_db
def test_a_trainer_may_write_what_it_likes(client: Client) -> None:
    session = factories.session(state=State.RUNNING, attempt=1, lease_owner="me")
    run = RunDir(session.run_path)
    run.attempt_path(1).mkdir(parents=True)
    lines = [*map(json.dumps, ODD_LINES), DEEP, '{"type": "log", "message": "the last"}']
    run.journal_path(1).write_text("\n".join(lines) + "\n")
    topics = frozenset({f"session:{session.pk}", "sessions"})
    feed = Feed()
    feed.open(topics)
    assert ingest(session, run, Lease(session.pk, 1, "me"))

    messages = list(LogLine.objects.values_list("message", flat=True))
    assert messages[0] == WHOLE
    assert messages[-1] == "the last"
    assert EpochMetric.objects.get(epoch=1).extra == {WHOLE: [WHOLE, 1e40, None]}
    Job.objects.filter(pk=session.pk).update(result={HALF.strip("\0"): HALF.strip("\0")})
    told = [encode_event(event.type, event.data) for event in feed.read(topics)]
    assert any(b"the last" in each for each in told)
    for door in ("", "/metrics", "/logs", "/diagnosis", "/series?keys=loss", "/samples"):
        answer = client.get(f"/api/v1/sessions/{session.pk}{door}")
        assert answer.status_code in (200, 404, 422), (door, answer.content)
    assert client.get(f"/api/v1/jobs/{session.pk}").status_code == 200
    assert client.get("/api/v1/sessions/").status_code == 200
    assert client.get(f"/sessions/{session.pk}/").status_code == 200


def test_a_result_that_is_nested_too_deeply_is_no_result(tmp_path: Any) -> None:
    (tmp_path / "result.json").write_text(DEEP)
    with pytest.raises(ValueError, match="deep"):
        read_json(tmp_path / "result.json")


def failures(answers: Mapping[Any, int]) -> dict[Any, int]:
    """503 is what the fast doors of inference say outside of a real server, and health."""
    return {key: code for key, code in answers.items() if code >= 500 and code != 503}


def lists() -> Iterator[str]:
    for (method, path), address in routes():
        if method == "get" and not path.endswith(("/stream/", "/events")):
            yield address


@pytest.mark.django_db
def test_no_number_in_a_query_is_a_server_error(client: Client) -> None:
    names = ("skip", "limit", "page", "page_size", "after", "points")
    answers = {
        (address, number): client.get(address, dict.fromkeys(names, number)).status_code
        for address in lists()
        for number in NUMBERS
    }
    assert failures(answers) == {}
    assert len(answers) > 300


@pytest.mark.django_db
def test_no_deep_or_odd_body_is_a_server_error(client: Client) -> None:
    bodies = [DEEP, '{"a":' * 3000 + "1" + "}" * 3000, '{"name": "\\ud800"}', '{"name": 1e999}']
    answers = {
        (route, body[:20]): client.generic(
            route[0].upper(), address, body.encode(), "application/json"
        ).status_code
        for route, address in routes()
        if route[0] in ("post", "put", "patch")
        for body in bodies
    }
    assert failures(answers) == {}
    assert len(answers) > 100
