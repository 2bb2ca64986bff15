"""What the recipes share that teach a language model: tokens, the model, LoRA, its folder."""

from __future__ import annotations

import json
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from tokenizers import Tokenizer

from ml.pretrained import count_positions
from ml.train.checkpoint import Tensors
from ml.train.errors import TrainingFailed
from ml.train.export import as_json
from ml.train.held_back import hold_back
from ml.train.prepared import FOLDER, make_once
from ml.train.recipes.bases import (
    base_name,
    find_base,
    learn_tokenizer,
    load_model,
    load_tokenizer,
    new_config,
    wrap_tokenizer,
)
from ml.train.recipes.texts import LanguageConfig, Part, open_records
from ml.train.recipes.tokens import TokenRows
from ml.train.state import load_trained
from ml.train.steps import DTYPES, THREADS_PAY_FROM, available_cpus, choose_precision
from ml.train.task import Check, Task, no_check

EAGER_UP_TO = 512
"""Tokens; on a CPU torch's fused attention takes a quarter longer than plain products, which keep
the square of a sample's length."""
TOKENIZER_CHARACTERS = 100_000_000
"""As many of the texts as a tokenizer is learned from; more would change little."""


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
        check: Check = no_check,
    ) -> None:
        self.settings, self.warn, self.check = config, warn, check
        self.folder = folder / FOLDER
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
            self.tokenizer = self._learn_tokenizer()
        else:
            self.tokenizer = load_tokenizer(config, base)
        self.module = self._make_module(base).to(device)
        self.positions = count_positions(self.module, self.tokenizer)
        self.max_length = self.fit("max_length", config.max_length)
        self._prepare()
        self._leave_out_empty()
        self.saves_memory = config.gradient_checkpointing
        size = sum(each.numel() for each in self.module.parameters())
        work = config.batch_size * self.max_length * size
        self.threads = available_cpus() if work >= THREADS_PAY_FROM else 1

    def _read_targets(self) -> np.ndarray:
        """Class numbers; zeros (float) where the answer is a text."""
        return np.zeros(len(self.records))

    @abstractmethod
    def _encode(self, folder: Path, tell: Callable[[str], None]) -> None:
        """Write the tokens of every row (`inputs`), and those to be learned (`labels`) where they
        are others; change train_rows and validation_rows where samples are no rows."""

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

    def _learn_tokenizer(self) -> Any:
        def learn(folder: Path) -> None:
            learned = learn_tokenizer(self.settings, self._texts_for_tokenizer())
            learned.backend_tokenizer.save(str(folder / "tokenizer.json"))

        folder = self.folder / "tokenizer"
        make_once(folder, self._made_of(), learn)
        file = str(folder / "tokenizer.json")
        return wrap_tokenizer(self.settings, Tokenizer.from_file(file))

    def _texts_for_tokenizer(self) -> Iterator[str]:
        """Of every row to learn from; of very many, every second, third … one."""
        size = sum(len(text) for text in self.records.texts_of(self.train_rows))
        step = -(-size // TOKENIZER_CHARACTERS)
        if step > 1:
            self.warn(
                f"The tokenizer is learned from one of {step} rows: all {size:,} characters would "
                "change little."
            )
        yield from self.records.texts_of(self.train_rows[::step])

    def _made_of(self) -> dict[str, Any]:
        """What tokens depend on: a run that is resumed need not make them again."""
        return {"dataset": self.records.sha256, "config": self.settings.to_dict()}

    def _prepare(self) -> None:
        """Tokens and rows come from disk, also when they were made just now."""
        folder = self.folder / "tokens"
        tokenizer = {"tokenizer": describe_tokenizer(self.tokenizer)}
        make_once(folder, {**self._made_of(), **tokenizer}, self._write_tokens)
        for message in json.loads((folder / "told.json").read_text()):
            self.warn(message)
        self.train_rows = np.load(folder / "train_rows.npy")
        self.validation_rows = np.load(folder / "validation_rows.npy")
        self.inputs = TokenRows(folder, "inputs")

    def _write_tokens(self, folder: Path) -> None:
        told: list[str] = []
        self._encode(folder, told.append)
        (folder / "told.json").write_text(json.dumps(told))
        np.save(folder / "train_rows.npy", self.train_rows)
        np.save(folder / "validation_rows.npy", self.validation_rows)

    def read_rows(self, rows: np.ndarray | None = None) -> Iterator[Part]:
        """The texts of these rows, or of all, a few at a time; for what is made once."""
        for part in self.records.read(np.arange(len(self.records)) if rows is None else rows):
            self.check()
            yield part

    def tokenize(
        self, texts: list[str], cut: Cut, argument: str = "text"
    ) -> Iterator[Sequence[int]]:
        """Token numbers of each text, cut to the longest that is allowed."""
        found: list[list[int]] = self.tokenizer(**{argument: texts})["input_ids"]
        long = [row for row, tokens in enumerate(found) if len(tokens) > cut.longest]
        cut.count(found)
        if long:
            whole = {argument: [texts[row] for row in long]}
            shorter = self.tokenizer(**whole, truncation=True, max_length=cut.longest)["input_ids"]
            for row, tokens in zip(long, shorter, strict=True):
                found[row] = tokens
        yield from found

    def pad(self, tokens: list[np.ndarray], value: int) -> torch.Tensor:
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

    @abstractmethod
    def _count_labels(self) -> np.ndarray:
        """How many labels of each row count."""

    def _leave_out_empty(self) -> None:
        """A row whose answer was cut off teaches nothing."""
        self.label_counts = self._count_labels()
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


class Cut:
    """Counts what is too long, and how much of all tokens that loses."""

    def __init__(self, longest: int, what: str) -> None:
        self.longest, self.what = longest, what
        self.long = self.samples = self.lost = self.tokens = 0

    def count(self, samples: Iterable[Sequence[int]]) -> None:
        for sample in samples:
            self.samples += 1
            self.tokens += len(sample)
            self.long += len(sample) > self.longest
            self.lost += max(0, len(sample) - self.longest)

    def tell(self, tell: Callable[[str], None]) -> None:
        if self.long:
            tell(
                f"{self.long:,} of {self.samples:,} {self.what} are longer than {self.longest} "
                f"tokens and cut: {self.lost:,} of {self.tokens:,} tokens "
                f"({self.lost / self.tokens:.1%}) are lost."
            )


def describe_tokenizer(tokenizer: Any) -> dict[str, Any]:
    """All that decides which tokens a text becomes."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = tokenizer.get_vocab() if backend is None else backend.to_str()
    return {"kind": type(tokenizer).__name__, "rules": rules, "chat": tokenizer.chat_template}


def checkpoint_activations(model: Any) -> None:
    """Compute activations again in the backward pass; the dropout is the same both times."""
    with warnings.catch_warnings():
        # transformers 5.23 calls it activation_checkpointing_enable; this name is all of 5's.
        warnings.simplefilter("ignore", FutureWarning)
        model.gradient_checkpointing_enable({"use_reentrant": False})
