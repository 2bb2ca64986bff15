"""Properties of settings: what stands in the environment is what counts, or the start stops."""

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st

from mlserver import env
from tests.properties.examples import examples

# What an environment can hold.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@examples(60)
@given(
    number=st.integers(-(10**9), 10**9), minimum=st.integers(-5, 5), blank=st.sampled_from(" \t")
)
def test_a_number_is_read_or_stops_the_start_with_its_name(
    monkeypatch: pytest.MonkeyPatch, number: int, minimum: int, blank: str
) -> None:
    monkeypatch.setenv("A_SETTING", f"{number}{blank}")
    if number >= minimum:
        assert env.number("A_SETTING", 7, minimum=minimum) == number
        return
    with pytest.raises(ImproperlyConfigured, match=f"A_SETTING .* {minimum}, got {number}"):
        env.number("A_SETTING", 7, minimum=minimum)


@examples(60)
@given(text=TEXT)
def test_a_switch_is_read_or_stops_the_start_with_its_name(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("A_SETTING", text)
    if text.lower() in env.TRUE | env.FALSE:
        assert env.flag("A_SETTING") == (text.lower() in env.TRUE)
        return
    with pytest.raises(ImproperlyConfigured, match="A_SETTING must be true or false"):
        env.flag("A_SETTING")


@examples(60)
@given(names=st.lists(st.from_regex(r"[a-z0-9.:/_-]{1,12}", fullmatch=True), max_size=5))
def test_a_list_is_read_without_its_blanks(
    monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    monkeypatch.setenv("A_SETTING", " , ".join(names) + ",")
    assert env.names("A_SETTING") == names


def test_what_is_not_set_has_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A_SETTING", raising=False)
    assert env.number("A_SETTING", 7) == 7
    assert env.flag("A_SETTING", True)
    assert env.names("A_SETTING", "a,b") == ["a", "b"]
