"""What the recipes have in common: references to what lies on the server, and shared fields."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from ml.fields import FieldError, build, conflict, setting
from ml.rules import DEVICE, Choice, Number, Text

SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
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


def named_recipe(name: str) -> Any:
    """The field that names the recipe."""
    return setting(Choice(choices=(name,)), "how it learns", name)


def column(help: str) -> Any:
    """A field that may name a column."""
    return setting(Text(nullable=True), help, None)


def whole(low: int, high: int, help: str, default: int | None) -> Any:
    return setting(Number(low=low, high=high, whole=True, nullable=default is None), help, default)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What every recipe understands."""

    session: str = setting(
        Text(pattern=SESSION, wanted="letters, digits, '_', '.' and '-'", empty=True),
        "identifier of the session; given by the server",
        "",
    )
    recipe: str = named_recipe("")
    dataset: str | DatasetReference = dataclasses.field(
        metadata={
            "rule": ReferenceRule(kind=DatasetReference, field="dataset"),
            "help": "what it learns from",
        }
    )
    epochs: int = whole(1, 10_000, "passes over the data", 10)
    seed: int = whole(0, 2**32 - 1, "start of all randomness", 0)
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

    batch_size: int = whole(1, 65_536, "samples a step", 32)
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
    gradient_accumulation: int = whole(1, 1024, "batches added up before each step", 1)
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
    num_processes: int = whole(
        1, 64, "processes that share the samples of each step; on GPUs, one each", 1
    )
    early_stopping_patience: int | None = whole(
        1, 1000, "stop after so many epochs without improvement; empty: never", None
    )
    checkpoint_every: str = setting(Choice(choices=("epoch",)), "when progress is saved", "epoch")
    keep_checkpoints: int = whole(1, 100, "newest checkpoints kept, besides the best", 2)
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


SMOOTHING = Number(low=0, high=0.9)
SMOOTHING_HELP = (
    "share of each label that is spread over all classes while training (cross_entropy)"
)
CLASS_WEIGHTS = Choice(choices=("none", "balanced"))
CLASS_WEIGHTS_HELP = "balanced: the rarer a class, the more each of its samples counts"
