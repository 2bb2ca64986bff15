"""The page Compare: what differs between sessions, and who did best."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from ml.config import parse_config
from sessions.models import EpochMetric, TrainingSession
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(stranger: User) -> Client:
    client = Client(headers={"accept": "text/html"})
    client.force_login(stranger)
    return client


def make(name: str, val_loss: float, **fields: object) -> TrainingSession:
    config = parse_config({"dataset": "d", **fields}).to_dict()
    session = factories.session(name=name, config=config)
    for epoch, value in ((1, val_loss), (2, val_loss + 1)):
        EpochMetric.objects.create(session=session, epoch=epoch, loss=0.5, val_loss=value)
    return session


def read(client: Client, *sessions: str) -> str:
    answer = client.get("/compare/", {"ids": ",".join(sessions)})
    assert answer.status_code == 200, answer.content
    return answer.content.decode()


def test_only_what_differs_is_told_of_the_configurations(client: Client) -> None:
    first, second = make("a", 0.3, epochs=5), make("b", 0.2, epochs=9)
    page = read(client, first.pk, second.pk)
    assert "<code>epochs</code>" in page
    assert "<code>learning_rate</code>" not in page


def test_the_best_of_every_metric_is_bold(client: Client) -> None:
    page = read(client, make("a", 0.3).pk, make("b", 0.2).pk)
    row = page.split("Validation loss</th>")[1].split("</tr>")[0]
    assert row == "<td>0.300</td><td><strong>0.200</strong></td>"


def test_the_same_session_twice_is_one(client: Client) -> None:
    first = make("a", 0.3)
    assert client.get("/compare/", {"ids": [first.pk, first.pk]}).status_code == 422


@pytest.mark.parametrize("count", [0, 1, 11])
def test_two_to_ten_are_compared(client: Client, count: int) -> None:
    ids = [make(f"s{number}", 0.1).pk for number in range(count)]
    answer = client.get("/compare/", {"ids": ids})
    assert answer.status_code == 422
    assert f"{count} were named" in answer.content.decode()


def test_one_that_is_gone_is_named(client: Client) -> None:
    answer = client.get("/compare/", {"ids": f"{make('a', 1.0).pk},train_gone"})
    assert answer.status_code == 404
    assert "train_gone" in answer.content.decode()


def test_sessions_that_have_not_begun_can_be_compared(client: Client) -> None:
    page = read(client, factories.session().pk, factories.session().pk)
    assert "the same in all" in page


def test_sessions_are_read_with_a_fixed_number_of_queries(
    client: Client, django_assert_max_num_queries: object
) -> None:
    ids = [make(f"s{number}", 0.1).pk for number in range(8)]
    with django_assert_max_num_queries(16 + 2 * 8):  # type: ignore[operator]
        read(client, *ids)
