"""Names that can be kept, and names that would do harm."""

import pytest

from mlserver.lib.errors import Invalid
from models_registry.names import check_alias, check_name, version_number


@pytest.mark.parametrize("name", ["digits", "a", "GPT-2.small_v1", "_x", "9", "a" * 100])
def test_it_accepts_plain_names(name: str) -> None:
    assert check_name(name) == name


def test_it_maps_a_hub_name_to_one_folder() -> None:
    assert check_name("Salesforce/codet5-small") == "Salesforce--codet5-small"


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", ".hidden", "../etc", "a/../b", "a/b/c", "/etc", "a/", "-rf", "a b", "a\n",
        "a\0", "é", "a" * 101, "a\\b", "a%2fb", "<script>", "x@3", "\u202egpj", "１",
    ],
)  # fmt: skip
def test_it_refuses_a_hostile_name(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_name(name)
    assert caught.value.errors[0].field == "name"


@pytest.mark.parametrize("name", ["load", "loaded", "LOADED", "check"])
def test_it_refuses_words_of_the_api(name: str) -> None:
    with pytest.raises(Invalid, match="word of the API"):
        check_name(name)


@pytest.mark.parametrize("alias", ["champion", "production", "a-b_c1"])
def test_it_accepts_plain_aliases(alias: str) -> None:
    assert check_alias(alias) == alias


@pytest.mark.parametrize("alias", ["", "latest", "3", "v3", "Champion", "a/b", "..", "a" * 65])
def test_it_refuses_an_alias_that_is_ambiguous(alias: str) -> None:
    with pytest.raises(Invalid):
        check_alias(alias)


def test_it_tells_numbers_from_aliases() -> None:
    assert [version_number(text) for text in ("3", "v3", "03", "0", "champion", "3a", "٣")] == [
        3, 3, None, None, None, None, None,
    ]  # fmt: skip
