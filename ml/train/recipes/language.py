"""What the recipes share that teach a language model: tokens, the model, LoRA, its folder."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from ml.train.checkpoint import Tensors
from ml.train.errors import TrainingFailed
from ml.train.export import as_json
from ml.train.held_back import hold_back
from ml.train.recipes.bases import (
    base_name,
    count_positions,
    find_base,
    learn_tokenizer,
    load_model,
    load_tokenizer,
    new_config,
)
from ml.train.recipes.texts import LanguageConfig, open_records
from ml.train.state import load_trained
from ml.train.steps import DTYPES, THREADS_PAY_FROM, available_cpus, choose_precision
from ml.train.task import Task

IGNORED = -100
"""A label that counts for nothing, as in torch's cross_entropy."""
EAGER_UP_TO = 512
"""Tokens; on a CPU torch's fused attention takes a quarter longer than plain products, which keep
the square of a sample's length."""
Tokens = list[np.ndarray]
"""Token numbers, or labels, of each row."""


class LanguageTask(Task):
    auto_class: ClassVar[Any]
    adapter_task: ClassVar[str]
    """What peft calls the way of learning."""
    module: Any
    """A transformers or peft model; their types say little of what its methods take."""
    tokenizer: Any

    def __init__(
        self,
        config: LanguageConfig,
        folder: Path,
        device: torch.device,
        warn: Callable[[str], None],
    ) -> None:
        self.settings, self.warn = config, warn
        self.device, self.precision = device, choose_precision(config.precision, device)
        self.records = open_records(config, folder, warn)
        self.targets = self._read_targets()
        self.train_rows, self.validation_rows = hold_back(
            self.targets,
            config.validation_split,
            config.seed,
            splits=self.records.splits,
            groups=self.records.groups,
            warn=warn,
        )
        base = find_base(config, folder)
        if base is None:
            self.tokenizer = learn_tokenizer(config, self.records.texts_of(self.train_rows))
        else:
            self.tokenizer = load_tokenizer(config, base)
        self.module = self._make_module(base).to(device)
        self.positions = count_positions(self.module, self.tokenizer)
        self.max_length = self.fit("max_length", config.max_length)
        self.inputs, self.labels = self._encode()
        self._leave_out_empty()
        self.saves_memory = config.gradient_checkpointing
        size = sum(each.numel() for each in self.module.parameters())
        work = config.batch_size * self.max_length * size
        self.threads = available_cpus() if work >= THREADS_PAY_FROM else 1

    def _read_targets(self) -> np.ndarray:
        """Class numbers; zeros (float) where the answer is a text."""
        return np.zeros(len(self.records))

    @abstractmethod
    def _encode(self) -> tuple[Tokens, Tokens]:
        """The token numbers that go in, and those to be learned, of every row."""

    def _model_fields(self) -> dict[str, Any]:
        """Further fields of the model's configuration."""
        return {}

    # ── the model ────────────────────────────────────────────────────────────────

    def _make_module(self, base: Path | None) -> Any:
        config = self.settings
        rank = config.lora_rank
        dtype = torch.float32 if rank is None else DTYPES[self.precision]
        if base is None:
            made = new_config(config, self.tokenizer, config.max_length)
            made.update(self._model_fields())
            is_short = self.device.type == "cpu" and config.max_length <= EAGER_UP_TO
            attention = {"attn_implementation": "eager"} if is_short else {}
            model = self.auto_class.from_config(made, **attention)
        else:
            model = load_model(config, base, self.auto_class, dtype, **self._model_fields())
        model.config.pad_token_id = self.tokenizer.pad_token_id
        if len(self.tokenizer) > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(len(self.tokenizer))
        if config.gradient_checkpointing:
            checkpoint_activations(model)
        return model if rank is None else self._with_adapters(model, rank)

    def _with_adapters(self, model: Any, rank: int) -> Any:
        """LoRA (Hu et al. 2021): small matrices beside the frozen weights."""
        import peft  # slow, and only for those who need it

        config = self.settings
        adapters = peft.LoraConfig(
            r=rank,
            lora_alpha=config.lora_alpha,  # type: ignore[arg-type]  # it divides by the rank only
            lora_dropout=config.lora_dropout,
            target_modules=list(config.lora_targets) or "all-linear",
            task_type=self.adapter_task,
        )
        try:
            with warnings.catch_warnings():
                # It tells that it takes GPT-2's transposed layers for what they are, and asks
                # transformers by an old name.
                warnings.filterwarnings("ignore", message="fan_in_fan_out")
                warnings.simplefilter("ignore", FutureWarning)
                wrapped = peft.get_peft_model(model, adapters)
        except ValueError as error:
            raise TrainingFailed("spec_error", f"lora_targets: {error}") from error
        # Else it is the path of this machine where the weights were read.
        wrapped.peft_config["default"].base_model_name_or_path = base_name(config)
        return wrapped

    def fit(self, field: str, wanted: int) -> int:
        """As many tokens as are wanted and the model has positions for."""
        if self.positions is None or wanted <= self.positions:
            return wanted
        self.warn(f"{field} {wanted} is more than the model takes; {self.positions} is used.")
        return self.positions

    def save_memory(self) -> bool:
        if self.saves_memory:
            return False
        checkpoint_activations(self.module)
        self.saves_memory = True
        return True

    # ── tokens ───────────────────────────────────────────────────────────────────

    def tokenize(self, texts: list[str], longest: int, what: str, argument: str = "text") -> Tokens:
        """Token numbers of each text, cut to `longest`; how many were cut is told."""
        tokens = as_tokens(self.tokenizer(**{argument: texts})["input_ids"])
        lengths = [len(numbers) for numbers in tokens]
        long = [row for row, length in enumerate(lengths) if length > longest]
        if long:
            whole = [texts[row] for row in long]
            cut = self.tokenizer(**{argument: whole}, truncation=True, max_length=longest)
            for row, numbers in zip(long, as_tokens(cut["input_ids"]), strict=True):
                tokens[row] = numbers
        self.tell_cut(lengths, longest, what)
        return tokens

    def tell_cut(self, lengths: Sequence[int], longest: int, what: str) -> None:
        """Warn how many of these are too long, and how much of all tokens that loses."""
        long = [length for length in lengths if length > longest]
        if long:
            lost = sum(long) - longest * len(long)
            self.warn(
                f"{len(long):,} of {len(lengths):,} {what} are longer than {longest} tokens and "
                f"cut: {lost:,} of {sum(lengths):,} tokens ({lost / sum(lengths):.1%}) are lost."
            )

    def pad(self, tokens: Tokens, value: int) -> torch.Tensor:
        """(rows, longest of them), filled up at the end with `value`."""
        filled = np.full((len(tokens), max(map(len, tokens))), value, np.int64)
        for row, numbers in zip(filled, tokens, strict=True):
            row[: len(numbers)] = numbers
        return torch.from_numpy(filled).to(self.device)

    def pad_inputs(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        tokens = [self.inputs[row] for row in rows.tolist()]
        return {
            "input_ids": self.pad(tokens, self.tokenizer.pad_token_id),
            "attention_mask": self.pad([np.ones_like(numbers) for numbers in tokens], 0),
        }

    def weight(self, rows: np.ndarray) -> int:
        return int(self.label_counts[rows].sum())

    def _leave_out_empty(self) -> None:
        """A row whose answer was cut off teaches nothing."""
        self.label_counts = np.array([np.count_nonzero(row != IGNORED) for row in self.labels])
        empty = self.label_counts == 0
        if empty.any():
            self.warn(f"{empty.sum():,} rows hold nothing to learn within max_length; left out.")
        self.train_rows = self.train_rows[~empty[self.train_rows]]
        self.validation_rows = self.validation_rows[~empty[self.validation_rows]]
        if not len(self.train_rows):
            raise TrainingFailed("data_error", "No row is left to learn from.")

    # ── what is told, and what is left ───────────────────────────────────────────

    def describe(self) -> list[str]:
        size = sum(each.numel() for each in self.module.parameters())
        trained = sum(each.numel() for each in self.module.parameters() if each.requires_grad)
        start = base_name(self.settings) or "nothing"
        share = "all of them" if trained == size else f"{trained:,}"
        return [
            f"{self.settings.recipe} from {start}: {size:,} weights, {share} trained, "
            f"{len(self.tokenizer):,} tokens"
        ]

    def export(self, folder: Path, weights: Tensors) -> None:
        """A plain Hugging Face folder; preprocess.json says how its inputs are made."""
        load_trained(self.module, weights)
        folder.mkdir()
        model = self.module
        if self.settings.lora_rank is not None and not self.settings.lora_merge:
            save_adapter(model, folder)
        else:
            if self.settings.lora_rank is not None:
                save_adapter(model, folder / "adapter")
                model = model.merge_and_unload()
            model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        (folder / "preprocess.json").write_bytes(as_json(self.preprocess()))

    def preprocess(self) -> dict[str, Any]:
        """What serving needs to make the same inputs."""
        fields = self.records.fields
        return {
            "framework": "transformers",
            "task": self.settings.recipe,
            "base_model": base_name(self.settings),
            "columns": {name: value for name, value in vars(fields).items() if value},
            "max_length": self.max_length,
        }


def save_adapter(model: Any, folder: Path) -> None:
    model.save_pretrained(folder, save_embedding_layers=False)
    # peft's card is a form that nobody filled in, with the path where the base was read.
    (folder / "README.md").unlink()


def as_tokens(lists: Iterable[Sequence[int]]) -> Tokens:
    return [np.array(numbers, np.int32) for numbers in lists]


def checkpoint_activations(model: Any) -> None:
    """Compute activations again in the backward pass; the dropout is the same both times."""
    with warnings.catch_warnings():
        # transformers 5.23 calls it activation_checkpointing_enable; this name is all of 5's.
        warnings.simplefilter("ignore", FutureWarning)
        model.gradient_checkpointing_enable({"use_reentrant": False})
