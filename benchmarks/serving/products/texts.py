"""What every product serves: a batch of texts in, an answer for each out, as the documentation of
transformers writes it. torch and transformers are those of this server: BENCH_LIBRARIES."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(os.environ["BENCH_LIBRARIES"])

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)


def open_model() -> Callable[[list[str]], list[Any]]:
    folder = Path(os.environ["BENCH_MODEL"])
    return open_classifier(folder) if folder.name == "classifier" else open_writer(folder)


def open_classifier(folder: Path) -> Callable[[list[str]], list[Any]]:
    """Texts to the shares of the classes."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()

    @torch.inference_mode()
    def classify(texts: list[str]) -> list[Any]:
        encoded = tokenizer(texts, padding=True, return_tensors="pt")
        shares: list[Any] = model(**encoded).logits.softmax(dim=1).tolist()
        return shares

    return classify


def open_writer(folder: Path, most: int | None = None) -> Callable[[list[str]], list[Any]]:
    """JSON lists of a text and how many tokens, or always `most`, to what comes next. A batch is as
    long as its longest."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()

    def write(prompts: list[str]) -> list[Any]:
        asked = [json.loads(prompt) for prompt in prompts]
        encoded = tokenizer([text for text, _ in asked], padding=True, return_tensors="pt")
        lengths = [most or tokens for _, tokens in asked]
        made = model.generate(**encoded, max_new_tokens=max(lengths), do_sample=False)
        made = made[:, encoded["input_ids"].shape[1] :]
        written: list[str] = tokenizer.batch_decode(
            [row[:length] for row, length in zip(made, lengths, strict=True)]
        )
        return written

    return write
