"""Lists as CSV."""

import csv
import io
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from accounts.services import record_attempt
from mlserver.api.tables import CSVRenderer


def render(*rows: dict[str, Any]) -> list[list[str]]:
    body = CSVRenderer().render({"results": list(rows)})
    return list(csv.reader(io.StringIO(body.decode(), newline="")))


@pytest.fixture
def attempts(owner: User) -> None:
    for number in range(3):
        record_attempt(success=False, endpoint=f"/page/{number}", user=owner)


@pytest.mark.usefixtures("attempts")
def test_a_list_is_csv_for_whoever_asks_so(api: Client) -> None:
    response = api.get("/api/v1/auth/logs/?search=page&limit=2", HTTP_ACCEPT="text/csv")
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(response.content.decode())))
    listed = api.get("/api/v1/auth/logs/?search=page&limit=2").json()["results"]
    assert [row["endpoint"] for row in rows] == [row["endpoint"] for row in listed]
    assert [row["timestamp"] for row in rows] == [row["timestamp"] for row in listed]
    assert {row["success"] for row in rows} == {"false"}


@pytest.mark.usefixtures("attempts")
def test_json_stays_what_others_get(api: Client) -> None:
    for accept in ("*/*", "application/json", "text/html, */*"):
        assert (
            api.get("/api/v1/auth/logs/", HTTP_ACCEPT=accept)["Content-Type"] == "application/json"
        )


def test_a_refusal_is_a_problem_also_then(api: Client) -> None:
    response = api.get("/api/v1/auth/logs/?limit=0", HTTP_ACCEPT="text/csv")
    assert response.status_code == 422
    assert response["Content-Type"] == "application/problem+json"


def test_what_lies_inside_gets_columns_of_its_own() -> None:
    rows = render({"id": 1, "metrics": {"loss": 0.5}}, {"id": 2, "metrics": {"f1": None}})
    assert rows == [["id", "metrics.loss", "metrics.f1"], ["1", "0.5", ""], ["2", "", ""]]


def test_lists_and_line_ends_stay_in_their_cell() -> None:
    assert render({"tags": ["a", 1], "note": 'a "b"\nc'})[1] == ['["a",1]', 'a "b"\nc']


@pytest.mark.parametrize("text", ["=1+1", "+1", "-cmd", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_spreadsheet_takes_no_text_for_a_formula(text: str) -> None:
    assert render({"name": text, "loss": -1.5})[1] == [f"'{text}", "-1.5"]


def test_an_empty_list_is_an_empty_table() -> None:
    assert render() == [[]]
