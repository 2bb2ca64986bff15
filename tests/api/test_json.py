import datetime
import json
import math
from contextlib import suppress
from typing import Any

import pytest
from django.test import Client
from django.utils.translation import gettext_lazy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml.storable import DEEPEST
from mlserver.api.json import dumps, loads
from mlserver.lib.errors import Malformed

finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
integers = st.integers(-(2**63), 2**63 - 1)
values = st.recursive(
    st.none() | st.booleans() | finite | integers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_what_is_sent_comes_back(value: Any) -> None:
    assert loads(dumps(value)) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    with suppress(Malformed):
        assert loads(dumps(loads(body))) == loads(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": NaN}',
        b"[Infinity]",
        b"1e999",
        b'"\\ud800"',
        b'"\\u0000"',
        b'{"\\u0000": 1}',
        b'"\xff"',
        b"[" * 100_000,
        b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1),
        b"18446744073709551615",
        b"9" * 5000,
        b"{",
        b"'a'",
    ],
)
def test_what_cannot_be_stored_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        loads(body)


def test_the_deepest_is_accepted() -> None:
    loads(b"[" * DEEPEST + b"]" * DEEPEST)


def test_a_syntax_error_says_where() -> None:
    with pytest.raises(Malformed, match="line 2, column 6"):
        loads(b'{"a": 1,\n "b" 2}')


def test_a_number_that_is_none_becomes_null() -> None:
    assert json.loads(dumps({"loss": math.nan, "best": math.inf})) == {"loss": None, "best": None}


def test_times_are_utc_with_a_z() -> None:
    noon = datetime.datetime(2026, 1, 6, 12, tzinfo=datetime.UTC)
    assert dumps(noon) == b'"2026-01-06T12:00:00Z"'


def test_sets_and_lazy_texts_are_written() -> None:
    assert dumps([{1}, gettext_lazy("name")]) == b'[[1],"name"]'


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None
)
@given(body=st.binary(max_size=300))
def test_no_body_is_answered_with_500(api: Client, body: bytes) -> None:
    response = api.post("/api/v1/checked", body, content_type="application/json")
    assert response.status_code in (200, 400, 422)


@pytest.mark.parametrize("body", [b"", b"  \n"])
def test_an_empty_body_is_no_json(api: Client, body: bytes) -> None:
    response = api.post("/api/v1/echo", body, content_type="application/json")
    assert response.status_code in (200, 400)


def test_answers_are_json(api: Client) -> None:
    response = api.post("/api/v1/echo", {"a": ["é", 1.5]}, content_type="application/json")
    assert response["Content-Type"] == "application/json"
    assert response.json() == {"a": ["é", 1.5]}
