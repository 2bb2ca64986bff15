"""The queue is held and let go, over REST and on the page."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from accounts.services import create_key
from jobs.models import QueueHold
from tests import factories

pytestmark = pytest.mark.django_db


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def call(user: User, method: str, path: str, data: Any = None) -> Any:
    _, secret = create_key(user=user, name="test", role="admin" if user.is_superuser else "viewer")
    send = getattr(Client(), method)
    return send(
        f"/api/v1/sessions/{path}",
        data=data,
        content_type="application/json",
        headers={"Authorization": f"Bearer {secret}"},
    )


def test_an_admin_holds_the_queue_and_everybody_reads_why(admin: User, stranger: User) -> None:
    waiting = factories.session()
    answer = call(admin, "post", "queue/hold", {"reason": "New driver."})
    assert (answer.status_code, answer.json()["by"]) == (201, "admin")
    body = call(stranger, "get", "queue").json()
    assert [row["id"] for row in body["results"]] == [waiting.pk]
    assert body["held"][0]["reason"] == "New driver."
    assert call(admin, "post", "queue/resume").status_code == 204
    assert call(stranger, "get", "queue/").json()["held"] == []


def test_only_an_admin_may_hold_or_lift(owner: User) -> None:
    assert call(owner, "post", "queue/hold", {"reason": "Mine!"}).status_code == 403
    assert call(owner, "post", "queue/resume").status_code == 403
    assert client_of(owner).post("/sessions/queue/hold/", {"reason": "x"}).status_code == 403
    assert not QueueHold.objects.exists()


def test_a_hold_without_a_reason_is_refused(admin: User) -> None:
    answer = call(admin, "post", "queue/hold", {"reason": ""})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "reason"


def test_the_page_shows_the_hold_and_lifts_it(admin: User, stranger: User) -> None:
    client = client_of(admin)
    assert client.post("/sessions/queue/hold/", {"reason": "<b>Stop.</b>"}).status_code == 302
    page = client_of(stranger).get("/sessions/").content.decode()
    assert "Nothing starts: &lt;b&gt;Stop.&lt;/b&gt;" in page
    assert "Let the queue go on" not in page
    assert "Let the queue go on" in client.get("/sessions/").content.decode()
    client.post("/sessions/queue/resume/")
    assert not QueueHold.objects.exists()
