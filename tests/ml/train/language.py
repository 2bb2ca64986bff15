"""Tiny datasets, base models and runs for the recipes that teach language models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
)

from ml.config import TextConfig, parse_config
from ml.data.importer import import_dataset
from ml.rundir import RunDir
from ml.train.recipes.bases import learn_tokenizer, new_config
from tests.ml.train.runs import make_run

AUTO: dict[str, Any] = {
    "text2text": AutoModelForSeq2SeqLM,
    "causal": AutoModelForCausalLM,
    "classify": AutoModelForSequenceClassification,
}
TINY: dict[str, Any] = {"hidden_size": 16, "layers": 1, "heads": 2, "vocabulary_size": 300}
SCRATCH: dict[str, Any] = {"from_scratch": True, **TINY}
COMMON: dict[str, Any] = {
    "max_length": 24,
    "epochs": 2,
    "batch_size": 8,
    "learning_rate": 0.01,
    "generate_samples": 2,
}


def rows_for(recipe: str, count: int = 40) -> Iterator[dict[str, Any]]:
    for number in range(count):
        first, second = number % 5, number % 3
        asked, told = f"add {first} {second}", f"is {first + second}"
        if recipe == "classify":
            yield {"text": f"{('calm', 'loud')[number % 2]} {asked}", "label": "ab"[number % 2]}
        elif recipe == "causal":
            yield {"prompt": f"{asked}: ", "completion": told}
        else:
            yield {"input": asked, "output": told}


def make_rows(folder: Path, rows: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True)
    (folder / "upload").write_text("\n".join(json.dumps(row) for row in rows))
    import_dataset(folder, "upload", "jsonl")
    return folder


def make_language_run(path: Path, recipe: str, dataset: Path, **fields: Any) -> RunDir:
    common = dict(COMMON)
    if recipe == "classify":
        del common["generate_samples"]
    if recipe == "text2text":
        common["max_target_length"] = 8
    if recipe == "causal":
        common["max_new_tokens"] = 4
    made = {**common, "recipe": recipe, **fields}
    return make_run(path, dataset, **made)


def make_base(folder: Path, recipe: str, positions: int = 32) -> Path:
    """A model with random weights and a tokenizer of its own, as people keep one."""
    config = parse_config({"recipe": recipe, "dataset": "x", **SCRATCH})
    assert isinstance(config, TextConfig)
    texts = [str(value) for row in rows_for(recipe) for value in row.values()]
    tokenizer = learn_tokenizer(config, iter(texts))
    tokenizer.model_max_length = positions
    torch.manual_seed(1)
    model = AUTO[recipe].from_config(new_config(config, tokenizer, positions))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
