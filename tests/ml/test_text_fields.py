"""Which columns a language model learns from, by their names."""

from typing import Any

import pytest

from ml.config import CausalConfig, ClassifyConfig, Text2TextConfig, parse_config
from ml.text_fields import NoSuchColumn, TextFields, find_fields


def find(recipe: str, *columns: str, **fields: Any) -> TextFields:
    config = parse_config({"recipe": recipe, "dataset": "x", "from_scratch": True, **fields})
    assert isinstance(config, Text2TextConfig | CausalConfig | ClassifyConfig)
    return find_fields(config, columns)


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (["input", "output"], ("input", "output", None)),
        (["id", "Source", "Target"], ("Source", "Target", None)),
        (["prompt", "completion"], ("prompt", "completion", None)),
        (["instruction", "input", "output"], ("instruction", "output", "input")),
        (["instruction", "output"], ("instruction", "output", None)),
        (["question", "answer"], ("question", "answer", None)),
    ],
)
def test_pairs_have_many_names(columns: list[str], found: tuple[str | None, ...]) -> None:
    for recipe in ("text2text", "causal"):
        fields = find(recipe, *columns)
        assert (fields.prompt, fields.answer, fields.context) == found


def test_one_named_column_takes_the_other_by_its_usual_name() -> None:
    fields = find("text2text", "broken", "fixed", "output", input_column="broken")
    assert (fields.prompt, fields.answer) == ("broken", "output")


def test_a_causal_model_takes_chats_before_pairs_before_texts() -> None:
    assert find("causal", "text", "messages", "prompt", "completion").messages == "messages"
    assert find("causal", "text", "prompt", "completion").prompt == "prompt"
    assert find("causal", "split", "code").text == "code"
    assert find("causal", "a", "b", text_column="b").text == "b"


def test_the_target_is_not_the_text() -> None:
    assert find("classify", "text", "code", target="text").text == "code"


@pytest.mark.parametrize(
    ("recipe", "fields", "field", "words"),
    [
        ("text2text", {}, "input_column", "there are a, b"),
        ("text2text", {"target": "c"}, "target", "target 'c' is no column"),
        ("classify", {}, "text_column", "text_column must name the column with the text"),
        ("causal", {"text_column": "c"}, "text_column", "'c' is no column of the dataset"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    recipe: str, fields: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(NoSuchColumn, match=words) as caught:
        find(recipe, "a", "b", **fields)
    assert caught.value.field == field
