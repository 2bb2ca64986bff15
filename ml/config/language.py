"""The recipes that teach language models."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ml.config.common import (
    CLASS_WEIGHTS,
    CLASS_WEIGHTS_HELP,
    SMOOTHING,
    SMOOTHING_HELP,
    GradientConfig,
    ModelReference,
    ReferenceRule,
    column,
    named_recipe,
    whole,
)
from ml.fields import FieldError, conflict, default, default_of, setting
from ml.rules import Flag, Names, Number, Text


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
    hidden_size: int = whole(8, 8192, "width of each layer (from_scratch only)", 256)
    layers: int = whole(1, 128, "layers (from_scratch only)", 4)
    heads: int = whole(1, 128, "attention heads a layer (from_scratch only)", 4)
    vocabulary_size: int = whole(300, 262_144, "tokens at most (from_scratch only)", 2048)
    dropout: float = setting(
        Number(low=0, high=0.9), "share of activations dropped (from_scratch only)", 0.1
    )
    max_length: int = whole(
        4, 131_072, "tokens of a sample; the rest is cut off (causal texts: packing)", 512
    )
    gradient_checkpointing: bool = setting(
        Flag(), "compute activations twice instead of keeping them: less memory, more time", False
    )
    lora_rank: int | None = whole(
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

    recipe: str = named_recipe("text2text")
    input_column: str | None = column("column with the input; empty: found by its usual names")
    target: str | None = column("column with the answer; empty: found by its usual names")
    prefix: str = setting(Text(empty=True), "put before every input, like 'summarize: '", "")
    max_target_length: int = whole(2, 131_072, "tokens of an answer; the rest is cut off", 128)
    generate_samples: int = whole(0, 1000, SAMPLES_HELP, 4)


@dataclass(frozen=True, kw_only=True)
class CausalConfig(TextConfig):
    """A decoder (GPT-2, Llama, Qwen …) that learns to go on with a text, an answer or a chat."""

    recipe: str = named_recipe("causal")
    text_column: str | None = column(
        "column with whole texts; empty: messages, text, or prompt and completion by their names"
    )
    packing: bool = setting(
        Flag(),
        "join whole texts, an end of text between, and cut them into blocks of max_length: nothing "
        "is lost or padded; false: each text is a sample, cut at max_length. Pairs and chats are "
        "never joined",
        True,
    )
    generate_samples: int = whole(0, 1000, SAMPLES_HELP, 4)
    max_new_tokens: int = whole(1, 4096, "tokens of such an answer", 64)

    def conflicts(self) -> list[FieldError]:
        found = super().conflicts()
        if self.from_scratch and not found and self.hidden_size // self.heads % 2:
            sentence = f"hidden_size must be a multiple of twice the heads ({2 * self.heads})"
            found.append(conflict("hidden_size", sentence, self.hidden_size))
        return found


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig(TextConfig):
    """A language model (RoBERTa, CodeBERT, GPT-2 …) that learns to tell texts apart."""

    recipe: str = named_recipe("classify")
    text_column: str | None = column("column with the text; empty: found by its usual names")
    target: str | None = column("column with the class; empty: the dataset's own target")
    class_weights: str = setting(CLASS_WEIGHTS, CLASS_WEIGHTS_HELP, "none")
    label_smoothing: float = setting(SMOOTHING, SMOOTHING_HELP, 0.0)
