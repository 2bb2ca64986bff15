"""ml.config: what is accepted, what is refused, and with which words."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.config import (
    RECIPES,
    DatasetReference,
    ModelReference,
    NetworkConfig,
    TrainingConfig,
    describe,
    parse_config,
)
from ml.fields import ConfigError, FieldError


def refusals(**fields: Any) -> list[FieldError]:
    with pytest.raises(ConfigError) as caught:
        parse_config({"dataset": "digits", **fields})
    return caught.value.errors


def test_a_dataset_is_enough_and_the_rest_has_defaults() -> None:
    config = parse_config({"dataset": "digits"})
    assert isinstance(config, NetworkConfig)
    assert (config.recipe, config.epochs, config.batch_size) == ("network", 10, 32)
    assert config.hidden_sizes == (64, 64)


def test_complete_json_gives_an_equal_configuration() -> None:
    config = parse_config({"dataset": {"path": "data/digits/v1", "version": 1}, "epochs": 3})
    assert config.dataset == DatasetReference(path="data/digits/v1", version=1)
    assert parse_config(json.loads(json.dumps(config.to_dict()))) == config


def test_a_whole_number_written_as_a_float_is_accepted() -> None:
    assert parse_config({"dataset": "digits", "epochs": 3.0}).epochs == 3


def test_it_refuses_a_learning_rate_with_field_bound_and_value() -> None:
    [error] = refusals(learning_rate=-0.1)
    assert error.message == "learning_rate must be greater than 0, got -0.1"
    assert (error.field, error.code, error.value) == ("learning_rate", "too_small", -0.1)


def test_it_refuses_an_unknown_field_with_a_suggestion() -> None:
    [error] = refusals(learning_rat=0.1)
    assert error.message == "unknown field 'learning_rat', did you mean 'learning_rate'?"


def test_it_refuses_everything_wrong_at_once() -> None:
    errors = refusals(epochs=0, optimizer="adm", dropout=True, hidden_sizes=[8, 0])
    assert {error.field for error in errors} == {"epochs", "optimizer", "dropout", "hidden_sizes"}


def test_it_refuses_a_missing_dataset() -> None:
    with pytest.raises(ConfigError, match="dataset is required"):
        parse_config({})


def test_it_names_the_field_inside_a_dataset_reference() -> None:
    errors = refusals(dataset={"pth": "x"})
    assert {error.message for error in errors} == {
        "unknown field 'dataset.pth', did you mean 'dataset.path'?",
        "dataset.path is required",
    }


def test_it_refuses_an_unknown_recipe() -> None:
    [error] = refusals(recipe="alchemy")
    assert error.message.startswith("recipe must be one of network, text2text, ")
    assert error.message.endswith("; got alchemy")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"task": "regression", "loss_function": "cross_entropy"}, "loss_function"),
        ({"task": "classification", "loss_function": "mse"}, "loss_function"),
        ({"architecture": "mlp", "channels": [8]}, "channels"),
        ({"early_stopping_patience": 3, "validation_split": 0}, "early_stopping_patience"),
        ({"class_weights": "balanced", "task": "regression"}, "class_weights"),
        ({"label_smoothing": 0.1, "loss_function": "bce"}, "label_smoothing"),
        ({"label_smoothing": 0.1, "task": "regression"}, "label_smoothing"),
        ({"num_processes": 3, "batch_size": 2}, "num_processes"),
        ({"num_processes": 2, "device": "cuda:1"}, "device"),
        ({"recipe": "causal"}, "base_model"),
        ({"recipe": "causal", "base_model": "gpt2", "from_scratch": True}, "from_scratch"),
        ({"recipe": "causal", "from_scratch": True, "lora_rank": 4}, "lora_rank"),
        ({"recipe": "causal", "from_scratch": True, "heads": 3}, "hidden_size"),
        ({"recipe": "causal", "from_scratch": True, "hidden_size": 12}, "hidden_size"),
        ({"recipe": "classify", "base_model": "gpt2", "layers": 2}, "layers"),
        ({"recipe": "text2text", "base_model": "t5", "lora_merge": False}, "lora_merge"),
    ],
)
def test_it_refuses_fields_that_cannot_be_together(fields: dict[str, Any], field: str) -> None:
    [error] = refusals(**fields)
    assert (error.field, error.code) == (field, "conflict")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, "0.1", None, [], True])
def test_it_refuses_what_is_no_finite_number(value: Any) -> None:
    [error] = refusals(learning_rate=value)
    assert error.field == "learning_rate"


def least(recipe: str) -> dict[str, Any]:
    """The smallest configuration of a recipe."""
    is_text = "base_model" in {field["name"] for field in describe()[recipe]["fields"]}
    return {"dataset": "digits", "recipe": recipe, **({"base_model": "gpt2"} if is_text else {})}


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_description_names_every_field_with_its_default(recipe: str) -> None:
    fields = {field["name"]: field for field in describe()[recipe]["fields"]}
    complete = parse_config(least(recipe)).to_dict()
    assert set(fields) == set(complete)
    given = ("dataset", "base_model")
    assert all(fields[name]["default"] == complete[name] for name in fields if name not in given)
    assert fields["dataset"]["required"]
    assert json.dumps(describe())


def test_a_base_model_is_a_name_or_says_where_it_lies() -> None:
    given = {**least("causal"), "base_model": {"path": "models/gpt2/v1", "name": "gpt2"}}
    config = parse_config(given)
    assert getattr(config, "base_model", None) == ModelReference(path="models/gpt2/v1", name="gpt2")
    assert parse_config(json.loads(json.dumps(config.to_dict()))) == config
    [error] = refusals(recipe="causal", base_model={"path": ""})
    assert error.field == "base_model.path"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"gradient_checkpointing": 1}, "must be true or false, got 1"),
        ({"lora_targets": "query"}, "must be a list of names, got query"),
        ({"lora_targets": [""]}, "must be a list of short names"),
    ],
)
def test_it_refuses_what_is_no_flag_and_no_list_of_names(
    fields: dict[str, Any], words: str
) -> None:
    [error] = refusals(**least("causal"), **fields)
    assert words in error.message


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_default_passes_its_own_rule(recipe: str) -> None:
    config = parse_config(parse_config(least(recipe)).to_dict())
    assert type(config) is RECIPES[recipe]
    assert config.recipe == recipe


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
FIELD_NAMES = st.sampled_from([field["name"] for field in describe()["network"]["fields"]])


@given(JSON | st.dictionaries(FIELD_NAMES | st.text(), JSON))
def test_arbitrary_json_is_parsed_or_refused_and_never_anything_else(data: Any) -> None:
    found = parsed_or_refused(data)
    if isinstance(found, ConfigError):
        assert found.errors
        assert all(each.message.encode() for each in found.errors)
    else:
        assert parse_config(found.to_dict()) == found


def parsed_or_refused(data: Any) -> TrainingConfig | ConfigError:
    try:
        return parse_config(data)
    except ConfigError as error:
        return error


VALID = st.fixed_dictionaries(
    {"dataset": st.just("digits") | st.builds(lambda v: {"path": "p", "version": v}, st.none())},
    optional={
        "epochs": st.integers(1, 10_000),
        "learning_rate": st.floats(0, 10, exclude_min=True),
        "max_grad_norm": st.none() | st.floats(1e-6, 1e9),
        "hidden_sizes": st.lists(st.integers(1, 8192), min_size=1, max_size=16),
        "optimizer": st.sampled_from(["adam", "adamw", "sgd", "rmsprop", "adagrad", "nadam"]),
        "seed": st.integers(0, 2**32 - 1),
        "device": st.sampled_from(["auto", "cpu", "cuda", "cuda:3"]),
        "target": st.none() | st.sampled_from(["y", "ein Ziel", "标签"]),
        "early_stopping_patience": st.none() | st.integers(1, 1000),
    },
)


@given(VALID)
def test_a_valid_configuration_survives_json(data: dict[str, Any]) -> None:
    config = parse_config(data)
    assert parse_config(json.loads(json.dumps(config.to_dict()))) == config
