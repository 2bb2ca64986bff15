"""Training configurations: every recipe with its fields, their ranges and their defaults.

Standard library only, so that Django may import it. Nothing here looks at a dataset.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from ml.fields import (
    ConfigError,
    FieldError,
    build,
    conflict,
    default,
    default_of,
    describe_fields,
    setting,
)
from ml.rules import DEVICE, Choice, Flag, Integers, Names, Number, Text, show

SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
CLASSIFICATION_LOSSES = ("cross_entropy", "bce")
REGRESSION_LOSSES = ("mse", "mae", "huber")
# Algorithms of recipe features that cannot do a task.
MISFITS = {"regression": ("logistic_regression",), "classification": ("ridge",)}
CLASSIFIERS = ("logistic_regression", "random_forest", "gradient_boosting")
VERSION = Number(low=1, high=2**31 - 1, whole=True, nullable=True)


@dataclass(frozen=True, kw_only=True)
class DatasetReference:
    """Where a dataset version lies; a submitted name is replaced by one before the run starts."""

    path: str = setting(Text(), "folder of the dataset version")
    format: str | None = setting(Text(nullable=True), "format of the original file", None)
    target: str | None = setting(Text(nullable=True), "column to learn", None)
    name: str | None = setting(Text(nullable=True), "name in the dataset registry", None)
    version: int | None = setting(VERSION, "version in the registry", None)


@dataclass(frozen=True, kw_only=True)
class ModelReference:
    """Where the files of a base model lie; takes the place of a name as a dataset's does."""

    path: str = setting(Text(), "folder of the model")
    name: str | None = setting(Text(nullable=True), "name in the model registry", None)
    version: int | None = setting(VERSION, "version in the registry", None)


@dataclass(frozen=True, kw_only=True)
class ReferenceRule:
    """A name, as a person submits it, or a reference, as config.json holds it."""

    kind: type[DatasetReference] | type[ModelReference]
    field: str
    nullable: bool = False

    def check(self, value: Any) -> Any:
        if isinstance(value, dict):
            return build(self.kind, value, prefix=f"{self.field}.")
        wanted = f"the name of a {self.field.replace('_', ' ')}"
        return Text(wanted=wanted, nullable=self.nullable).check(value)

    def describe(self) -> dict[str, Any]:
        return {"kind": self.field, "nullable": self.nullable}


def _recipe(name: str) -> Any:
    return setting(Choice(choices=(name,)), "how it learns", name)


def _column(help: str) -> Any:
    return setting(Text(nullable=True), help, None)


def _count(low: int, high: int, help: str, default: int | None) -> Any:
    return setting(Number(low=low, high=high, whole=True, nullable=default is None), help, default)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What every recipe understands."""

    session: str = setting(
        Text(pattern=SESSION, wanted="letters, digits, '_', '.' and '-'", empty=True),
        "identifier of the session; given by the server",
        "",
    )
    recipe: str = _recipe("")
    dataset: str | DatasetReference = dataclasses.field(
        metadata={
            "rule": ReferenceRule(kind=DatasetReference, field="dataset"),
            "help": "what it learns from",
        }
    )
    epochs: int = _count(1, 10_000, "passes over the data", 10)
    seed: int = _count(0, 2**32 - 1, "start of all randomness", 0)
    validation_split: float = setting(
        Number(low=0, high=0.9), "share held back to measure what was learned", 0.2
    )

    def to_dict(self) -> dict[str, Any]:
        """Complete JSON; parse_config() of it gives an equal configuration."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }

    def conflicts(self) -> list[FieldError]:
        """Fields that are right alone and impossible, or without effect, together."""
        return []


@dataclass(frozen=True, kw_only=True)
class GradientConfig(TrainingConfig):
    """What the recipes have in common that learn step by step."""

    batch_size: int = _count(1, 65_536, "samples a step", 32)
    learning_rate: float = setting(
        Number(low=0, high=10, above_low=True), "size of the steps at their largest", 0.001
    )
    optimizer: str = setting(
        Choice(choices=("adam", "adamw", "sgd", "rmsprop", "adagrad", "nadam")),
        "rule that turns gradients into steps; sgd has momentum 0.9",
        "adam",
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
    gradient_accumulation: int = _count(1, 1024, "batches added up before each step", 1)
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
    num_processes: int = _count(
        1, 64, "processes that share the samples of each step; on GPUs, one each", 1
    )
    early_stopping_patience: int | None = _count(
        1, 1000, "stop after so many epochs without improvement; empty: never", None
    )
    checkpoint_every: str = setting(Choice(choices=("epoch",)), "when progress is saved", "epoch")
    keep_checkpoints: int = _count(1, 100, "newest checkpoints kept, besides the best", 2)
    max_duration_seconds: float | None = setting(
        Number(low=1, high=1e9, nullable=True), "training time allowed; empty: any", None
    )

    def conflicts(self) -> list[FieldError]:
        found = super().conflicts()
        patience, samples = self.early_stopping_patience, self.batch_size
        if patience is not None and self.validation_split == 0:
            sentence = "early_stopping_patience needs a validation_split greater than 0"
            found.append(conflict("early_stopping_patience", sentence, patience))
        if self.num_processes > samples * self.gradient_accumulation:
            sentence = f"num_processes {self.num_processes} cannot share a step of {samples} sample"
            found.append(conflict("num_processes", sentence, self.num_processes))
        if self.num_processes > 1 and ":" in self.device:
            sentence = f"device {self.device} is one GPU; choose cuda for several processes"
            found.append(conflict("device", sentence, self.device))
        return found


CLASS_WEIGHTS = Choice(choices=("none", "balanced"))
CLASS_WEIGHTS_HELP = "balanced: the rarer a class, the more each of its samples counts"


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(GradientConfig):
    """A small network on a table or on images."""

    recipe: str = _recipe("network")
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
    target: str | None = _column("column to learn; empty: the dataset's own target")
    loss_function: str = setting(
        Choice(choices=("auto", "cross_entropy", "bce", "mse", "mae", "huber")),
        "what is minimised; auto: cross_entropy for classes, mse for numbers; bce: two classes",
        "auto",
    )
    class_weights: str = setting(CLASS_WEIGHTS, CLASS_WEIGHTS_HELP, "none")

    def conflicts(self) -> list[FieldError]:
        found = super().conflicts()
        losses = {"classification": REGRESSION_LOSSES, "regression": CLASSIFICATION_LOSSES}
        if self.loss_function in losses.get(self.task, ()):
            sentence = f"loss_function {self.loss_function} does not fit task {self.task}"
            found.append(conflict("loss_function", sentence, self.loss_function))
        if self.architecture == "mlp" and self.channels != default_of(NetworkConfig, "channels"):
            sentence = "channels has no effect on architecture mlp; remove it or choose cnn"
            found.append(conflict("channels", sentence, list(self.channels)))
        is_regression = self.task == "regression" or self.loss_function in REGRESSION_LOSSES
        if self.class_weights != "none" and is_regression:
            sentence = "class_weights has no effect on a regression; remove it"
            found.append(conflict("class_weights", sentence, self.class_weights))
        return found


@dataclass(frozen=True, kw_only=True)
class TextConfig(GradientConfig):
    """What the recipes have in common that teach a language model."""

    epochs: int = default(GradientConfig, "epochs", 3)
    batch_size: int = default(GradientConfig, "batch_size", 8)
    learning_rate: float = default(GradientConfig, "learning_rate", 5e-5)
    optimizer: str = default(GradientConfig, "optimizer", "adamw")
    scheduler: str = default(GradientConfig, "scheduler", "linear")
    base_model: str | ModelReference | None = dataclasses.field(
        default=None,
        metadata={
            "rule": ReferenceRule(kind=ModelReference, field="base_model", nullable=True),
            "help": "model to start from: its name on this server, else on the Hugging Face hub",
        },
    )
    from_scratch: bool = setting(
        Flag(), "start from nothing: a small model, and a tokenizer learned from the data", False
    )
    hidden_size: int = _count(8, 8192, "width of each layer (from_scratch only)", 256)
    layers: int = _count(1, 128, "layers (from_scratch only)", 4)
    heads: int = _count(1, 128, "attention heads a layer (from_scratch only)", 4)
    vocabulary_size: int = _count(300, 262_144, "tokens at most (from_scratch only)", 2048)
    dropout: float = setting(
        Number(low=0, high=0.9), "share of activations dropped (from_scratch only)", 0.1
    )
    max_length: int = _count(4, 131_072, "tokens of a sample; the rest is cut off", 512)
    gradient_checkpointing: bool = setting(
        Flag(), "compute activations twice instead of keeping them: less memory, more time", False
    )
    lora_rank: int | None = _count(
        1, 1024, "rank of LoRA adapters, trained in place of all weights; empty: none", None
    )
    lora_alpha: float = setting(
        Number(low=0, high=10_000, above_low=True), "weight of the adapters: alpha / rank", 16.0
    )
    lora_dropout: float = setting(Number(low=0, high=0.9), "dropout before the adapters", 0.0)
    lora_targets: tuple[str, ...] = setting(
        Names(most=64), "layers that get adapters, by the end of their name; empty: all linear", ()
    )
    lora_merge: bool = setting(
        Flag(), "add the adapters to the weights in the end; false: the model is the adapter", True
    )

    def conflicts(self) -> list[FieldError]:
        found = super().conflicts()
        if self.base_model is None and not self.from_scratch:
            sentence = "base_model must name a model to start from, or set from_scratch to true"
            found.append(conflict("base_model", sentence, None))
        if self.base_model is not None and self.from_scratch:
            sentence = "from_scratch starts from nothing; remove it or base_model"
            found.append(conflict("from_scratch", sentence, True))
        if self.from_scratch and self.hidden_size % self.heads:
            sentence = f"hidden_size must be a multiple of heads ({self.heads})"
            found.append(conflict("hidden_size", sentence, self.hidden_size))
        if self.from_scratch and self.lora_rank is not None:
            sentence = "lora_rank needs a base_model; a model from nothing has no weights to keep"
            found.append(conflict("lora_rank", sentence, self.lora_rank))
        sizes = ("hidden_size", "layers", "heads", "vocabulary_size", "dropout")
        adapters = ("lora_alpha", "lora_dropout", "lora_targets", "lora_merge")
        if not self.from_scratch:
            found += self._without_effect(sizes, "without from_scratch")
        if self.lora_rank is None:
            found += self._without_effect(adapters, "without lora_rank")
        return found

    def _without_effect(self, names: tuple[str, ...], why: str) -> list[FieldError]:
        given = self.to_dict()
        return [
            conflict(name, f"{name} has no effect {why}; remove it", given[name])
            for name in names
            if getattr(self, name) != default_of(type(self), name)
        ]


SAMPLES_HELP = "validation samples answered in full after each epoch, to be read and compared"


@dataclass(frozen=True, kw_only=True)
class Text2TextConfig(TextConfig):
    """An encoder-decoder (T5, CodeT5, BART …) that learns to turn one text into another."""

    recipe: str = _recipe("text2text")
    input_column: str | None = _column("column with the input; empty: found by its usual names")
    target: str | None = _column("column with the answer; empty: found by its usual names")
    prefix: str = setting(Text(empty=True), "put before every input, like 'summarize: '", "")
    max_target_length: int = _count(2, 131_072, "tokens of an answer; the rest is cut off", 128)
    generate_samples: int = _count(0, 1000, SAMPLES_HELP, 4)


@dataclass(frozen=True, kw_only=True)
class CausalConfig(TextConfig):
    """A decoder (GPT-2, Llama, Qwen …) that learns to go on with a text, an answer or a chat."""

    recipe: str = _recipe("causal")
    text_column: str | None = _column(
        "column with whole texts; empty: messages, text, or prompt and completion by their names"
    )
    generate_samples: int = _count(0, 1000, SAMPLES_HELP, 4)
    max_new_tokens: int = _count(1, 4096, "tokens of such an answer", 64)


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig(TextConfig):
    """A language model (RoBERTa, CodeBERT, GPT-2 …) that learns to tell texts apart."""

    recipe: str = _recipe("classify")
    text_column: str | None = _column("column with the text; empty: found by its usual names")
    target: str | None = _column("column with the class; empty: the dataset's own target")
    class_weights: str = setting(CLASS_WEIGHTS, CLASS_WEIGHTS_HELP, "none")


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig(TrainingConfig):
    """A classical model (scikit-learn) on a table, on texts or on code; kept as ONNX."""

    recipe: str = _recipe("features")
    epochs: int = _count(1, 1, "it learns in one go", 1)
    algorithm: str = setting(
        Choice(choices=("auto", *CLASSIFIERS, "ridge")),
        "auto: logistic_regression for classes, ridge for numbers",
        "auto",
    )
    input: str = setting(
        Choice(choices=("auto", "table", "text", "code")),
        "what a sample is; code: Python, by words and syntax tree; auto: code or text where the "
        "dataset has a column of that name, else a table",
        "auto",
    )
    text_column: str | None = _column("column with the text or code; empty: found by its name")
    target: str | None = _column("column to learn; empty: the dataset's own target")
    task: str = setting(
        Choice(choices=("auto", "classification", "regression")),
        "what the target is; auto: decided by its values",
        "auto",
    )
    regularization: float = setting(
        Number(low=0, high=1e6, above_low=True),
        "pull of the weights towards zero (logistic_regression and ridge)",
        0.1,
    )
    trees: int = _count(1, 10_000, "trees (random_forest and gradient_boosting)", 200)
    max_depth: int | None = _count(1, 100, "depth of each tree; empty: the algorithm's own", None)
    vocabulary_size: int = _count(1, 1_000_000, "features kept of text or code at most", 20_000)
    min_document_frequency: int = _count(1, 1_000_000, "texts that must have a feature", 2)
    class_weights: str = setting(CLASS_WEIGHTS, CLASS_WEIGHTS_HELP, "none")

    def conflicts(self) -> list[FieldError]:
        found = super().conflicts()
        if self.algorithm in MISFITS.get(self.task, ()):
            sentence = f"algorithm {self.algorithm} does not fit task {self.task}"
            found.append(conflict("algorithm", sentence, self.algorithm))
        if self.text_column is not None and self.input == "table":
            sentence = "text_column has no effect on input table; remove it"
            found.append(conflict("text_column", sentence, self.text_column))
        return found


DEFAULT_RECIPE = "network"
RECIPES: dict[str, type[TrainingConfig]] = {
    "network": NetworkConfig,
    "text2text": Text2TextConfig,
    "causal": CausalConfig,
    "classify": ClassifyConfig,
    "features": FeaturesConfig,
}


def parse_config(data: dict[str, Any]) -> TrainingConfig:
    """A complete configuration, or ConfigError with everything that is wrong at once."""
    if not isinstance(data, dict):
        sentence = f"a training configuration must be an object, got {show(data)}"
        raise ConfigError([FieldError(field="", message=sentence, code="invalid_type")])
    recipe = data.get("recipe", DEFAULT_RECIPE)
    if not isinstance(recipe, str) or recipe not in RECIPES:
        sentence = f"recipe must be one of {', '.join(RECIPES)}; got {show(recipe)}"
        raise ConfigError(
            [FieldError(field="recipe", message=sentence, code="invalid_choice", value=recipe)]
        )
    config = build(RECIPES[recipe], data)
    if found := config.conflicts():
        raise ConfigError(found)
    return config


def describe() -> dict[str, Any]:
    """Every recipe with its fields, in order: what a form or GET /config shows."""
    return {
        name: {"help": (kind.__doc__ or "").strip(), "fields": describe_fields(kind)}
        for name, kind in RECIPES.items()
    }
