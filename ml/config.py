"""Training configurations: every field, its range, its default, and how a wrong one is refused.

Standard library only, so that Django may import it. Nothing here looks at a dataset.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from ml.rules import DEVICE, Choice, Integers, Number, Refused, Rule, Text, show

SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
CLASSIFICATION_LOSSES = ("cross_entropy", "bce")
REGRESSION_LOSSES = ("mse", "mae", "huber")
Kind = TypeVar("Kind", "NetworkConfig", "DatasetReference")


@dataclass(frozen=True, kw_only=True)
class FieldError:
    field: str
    message: str
    code: str
    value: Any = None


class ConfigError(ValueError):
    """The configuration cannot be used; `errors` names every field that is wrong."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(error.message for error in errors))
        self.errors = errors


def setting(rule: Rule, help: str, default: Any = dataclasses.MISSING) -> Any:
    metadata = {"rule": rule, "help": help}
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class DatasetReference:
    """Where a dataset version lies; a submitted name is replaced by one before the run starts."""

    path: str = setting(Text(), "folder of the dataset version")
    format: str | None = setting(Text(nullable=True), "format of the original file", None)
    target: str | None = setting(Text(nullable=True), "column to learn", None)
    name: str | None = setting(Text(nullable=True), "name in the dataset registry", None)
    version: int | None = setting(
        Number(low=1, high=2**31 - 1, whole=True, nullable=True), "version in the registry", None
    )


class DatasetRule:
    """A name, as a person submits it, or a reference, as config.json holds it."""

    def check(self, value: Any) -> Any:
        if isinstance(value, dict):
            return _build(DatasetReference, value, prefix="dataset.")
        return Text(wanted="the name of a dataset").check(value)

    def describe(self) -> dict[str, Any]:
        return {"kind": "dataset", "nullable": False}


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """A small network on a table or on images, trained by our own visible loop."""

    session: str = setting(
        Text(pattern=SESSION, wanted="letters, digits, '_', '.' and '-'", empty=True),
        "identifier of the session; given by the server",
        "",
    )
    recipe: str = setting(Choice(choices=("network",)), "how it learns", "network")
    dataset: str | DatasetReference = dataclasses.field(
        metadata={"rule": DatasetRule(), "help": "what it learns from"}
    )
    architecture: str = setting(
        Choice(choices=("auto", "mlp", "cnn")),
        "layers of the network; auto: convolutions for images, dense layers for tables",
        "auto",
    )
    hidden_sizes: tuple[int, ...] = setting(
        Integers(low=1, high=8192, most=16), "width of each dense layer", (64, 64)
    )
    channels: tuple[int, ...] = setting(
        Integers(low=1, high=1024, most=8), "channels of each convolution (cnn only)", (32, 64)
    )
    dropout: float = setting(
        Number(low=0, high=0.9), "share of activations dropped while training", 0.1
    )
    task: str = setting(
        Choice(choices=("auto", "classification", "regression")),
        "what the target is; auto: decided by its values",
        "auto",
    )
    target: str | None = setting(
        Text(nullable=True), "column to learn; empty: the dataset's own target", None
    )
    epochs: int = setting(Number(low=1, high=10_000, whole=True), "passes over the data", 10)
    batch_size: int = setting(Number(low=1, high=65_536, whole=True), "samples a step", 32)
    learning_rate: float = setting(
        Number(low=0, high=10, above_low=True), "size of the steps at their largest", 0.001
    )
    optimizer: str = setting(
        Choice(choices=("adam", "adamw", "sgd", "rmsprop", "adagrad", "nadam")),
        "rule that turns gradients into steps; sgd has momentum 0.9",
        "adam",
    )
    loss_function: str = setting(
        Choice(choices=("auto", "cross_entropy", "bce", "mse", "mae", "huber")),
        "what is minimised; auto: cross_entropy for classes, mse for numbers; bce: two classes",
        "auto",
    )
    scheduler: str = setting(
        Choice(choices=("none", "linear", "cosine", "step")),
        "how the learning rate falls after the warm-up; step: a tenth at each third",
        "none",
    )
    warmup_ratio: float = setting(
        Number(low=0, high=0.5), "share of all steps in which the learning rate rises", 0.0
    )
    weight_decay: float = setting(Number(low=0, high=1), "pull of the weights towards zero", 0.0)
    gradient_accumulation: int = setting(
        Number(low=1, high=1024, whole=True), "batches added up before each step", 1
    )
    max_grad_norm: float | None = setting(
        Number(low=0, high=1e9, above_low=True, nullable=True),
        "longer gradients are shortened to this; empty: never",
        1.0,
    )
    precision: str = setting(
        Choice(choices=("auto", "fp32", "bf16", "fp16")),
        "arithmetic of the network; auto: fp32 on a CPU, bf16 on a GPU that has it",
        "auto",
    )
    device: str = setting(
        Text(pattern=DEVICE, wanted="auto, cpu, cuda or cuda:N"),
        "where it computes; auto: the first GPU, else the CPU",
        "auto",
    )
    seed: int = setting(Number(low=0, high=2**32 - 1, whole=True), "start of all randomness", 0)
    validation_split: float = setting(
        Number(low=0, high=0.9), "share held back to measure what was learned", 0.2
    )
    early_stopping_patience: int | None = setting(
        Number(low=1, high=1000, whole=True, nullable=True),
        "stop after so many epochs without improvement; empty: never",
        None,
    )
    checkpoint_every: str = setting(Choice(choices=("epoch",)), "when progress is saved", "epoch")
    keep_checkpoints: int = setting(
        Number(low=1, high=100, whole=True), "newest checkpoints kept, besides the best", 2
    )
    max_duration_seconds: float | None = setting(
        Number(low=1, high=1e9, nullable=True), "training time allowed; empty: any", None
    )

    def to_dict(self) -> dict[str, Any]:
        """Complete JSON; parse_config() of it gives an equal configuration."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }

    def conflicts(self) -> list[FieldError]:
        """Fields that are right alone and impossible, or without effect, together."""
        found = []
        losses = {"classification": REGRESSION_LOSSES, "regression": CLASSIFICATION_LOSSES}
        if self.loss_function in losses.get(self.task, ()):
            sentence = f"loss_function {self.loss_function} does not fit task {self.task}"
            found.append(_conflict("loss_function", sentence, self.loss_function))
        if self.architecture == "mlp" and self.channels != _default("channels"):
            sentence = "channels has no effect on architecture mlp; remove it or choose cnn"
            found.append(_conflict("channels", sentence, list(self.channels)))
        if self.early_stopping_patience is not None and self.validation_split == 0:
            sentence = "early_stopping_patience needs a validation_split greater than 0"
            found.append(
                _conflict("early_stopping_patience", sentence, self.early_stopping_patience)
            )
        return found


RECIPES: dict[str, type[NetworkConfig]] = {"network": NetworkConfig}


def parse_config(data: dict[str, Any]) -> NetworkConfig:
    """A complete configuration, or ConfigError with everything that is wrong at once."""
    if not isinstance(data, dict):
        sentence = f"a training configuration must be an object, got {show(data)}"
        raise ConfigError([FieldError(field="", message=sentence, code="invalid_type")])
    recipe = data.get("recipe", "network")
    if not isinstance(recipe, str) or recipe not in RECIPES:
        sentence = f"recipe must be one of {', '.join(RECIPES)}; got {show(recipe)}"
        raise ConfigError(
            [FieldError(field="recipe", message=sentence, code="invalid_choice", value=recipe)]
        )
    config = _build(RECIPES[recipe], data)
    if found := config.conflicts():
        raise ConfigError(found)
    return config


def describe() -> dict[str, Any]:
    """Every recipe with its fields, in order: what a form or GET /config shows."""
    return {
        name: {"help": (kind.__doc__ or "").strip(), "fields": _describe_fields(kind)}
        for name, kind in RECIPES.items()
    }


def _describe_fields(kind: type[NetworkConfig]) -> list[dict[str, Any]]:
    fields = []
    for field in dataclasses.fields(kind):
        required = field.default is dataclasses.MISSING
        default = None if required else field.default
        fields.append(
            {
                "name": field.name,
                "help": field.metadata["help"],
                "required": required,
                "default": list(default) if isinstance(default, tuple) else default,
                **cast(Rule, field.metadata["rule"]).describe(),
            }
        )
    return fields


def _build(kind: type[Kind], data: dict[str, Any], prefix: str = "") -> Kind:
    rules = {field.name: field for field in dataclasses.fields(kind)}
    errors = [_unknown(prefix, name, list(rules)) for name in data if name not in rules]
    values: dict[str, Any] = {}
    for name, field in rules.items():
        if name not in data:
            if field.default is dataclasses.MISSING:
                errors.append(_error(prefix + name, "is required", "required", None))
            continue
        try:
            values[name] = field.metadata["rule"].check(data[name])
        except Refused as refused:
            errors.append(_error(prefix + name, refused.message, refused.code, data[name]))
        except ConfigError as nested:
            errors.extend(nested.errors)
    if errors:
        raise ConfigError(errors)
    return kind(**values)


def _error(field: str, message: str, code: str, value: Any) -> FieldError:
    return FieldError(field=field, message=f"{field} {message}", code=code, value=value)


def _unknown(prefix: str, name: Any, known: list[str]) -> FieldError:
    field = prefix + show(name)
    close = difflib.get_close_matches(str(name)[:100], known, n=1)
    hint = f", did you mean '{prefix}{close[0]}'?" if close else ""
    return FieldError(field=field, message=f"unknown field '{field}'{hint}", code="unknown_field")


def _conflict(field: str, message: str, value: Any) -> FieldError:
    return FieldError(field=field, message=message, code="conflict", value=value)


def _default(name: str) -> Any:
    return NetworkConfig.__dataclass_fields__[name].default
