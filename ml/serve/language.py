"""A language model in a Hugging Face folder: its tokenizer, its weights, and what it can take.

Only safetensors and JSON are read, never pickles, and never code that comes with a model.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
from transformers import AutoModelForSequenceClassification as AutoClassifier

from ml.formats.huggingface import read_json
from ml.pretrained import count_positions
from ml.serve.errors import ContextLengthExceeded, InvalidInput, LoadRefused, first_line
from ml.serve.runtimes import Options, find_language_task

CLASSES: Mapping[str, Any] = {
    "text2text": AutoModelForSeq2SeqLM,
    "causal": AutoModelForCausalLM,
    "classify": AutoClassifier,
    "embed": AutoModel,
}
THREADS_PAY_FROM = 30_000_000
"""Weights; smaller ones are quicker without threads that wait for each other."""
NO_LIMIT = 10**9
"""Tokenizers that know no longest length name a huge one."""

# transformers imports torch's compiler, which makes a folder for what it compiles. Nothing is
# compiled here, and a locked process makes no folders; this one is there.
os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.sep


class Language:
    """Model and tokenizer, loaded. `task` is one of CLASSES."""

    def __init__(self, folder: Path, options: Options) -> None:
        self.task = find_language_task(folder) or "embed"
        self.preprocess = _read_preprocess(folder)
        self.device = torch.device(options.device)
        # On a GPU as they were saved; most CPUs compute half precision more slowly than full.
        dtype = "auto" if self.device.type == "cuda" else torch.float32
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.model: Any = CLASSES[self.task].from_pretrained(
                    folder,
                    trust_remote_code=False,
                    use_safetensors=True,
                    local_files_only=True,
                    dtype=dtype,
                )
        except MemoryError:
            raise
        except Exception as error:  # it is a stranger's folder: whatever is wrong with it
            raise LoadRefused(f"transformers cannot load it: {first_line(error)}") from error
        self.model.to(self.device).eval()
        self.parameters = sum(each.numel() for each in self.model.parameters())
        self.threads = options.threads if self.parameters >= THREADS_PAY_FROM else 1
        self.pad = self.tokenizer.pad_token_id or 0
        self.longest = _longest(self.model, self.tokenizer)

    def encode(self, texts: Sequence[str], **options: Any) -> list[list[int]]:
        """Tokens of each text, whole: what is too long is refused elsewhere, never cut."""
        found: list[list[int]] = self.tokenizer(
            list(texts), truncation=False, padding=False, verbose=False, **options
        )["input_ids"]
        return found

    def fill_up(
        self, texts: Sequence[Sequence[int]], *, on_left: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens of several texts and their mask, (texts, longest), where the model is."""
        longest = max(1, *map(len, texts))
        ids = torch.full((len(texts), longest), self.pad)
        mask = torch.zeros(len(texts), longest, dtype=torch.long)
        for row, tokens in enumerate(texts):
            place = slice(longest - len(tokens), None) if on_left else slice(len(tokens))
            ids[row, place] = torch.tensor(tokens, dtype=torch.long)
            mask[row, place] = 1
        return ids.to(self.device), mask.to(self.device)

    def check_length(self, tokens: Sequence[int], most: int | None, what: str) -> None:
        if most is not None and len(tokens) > most:
            raise ContextLengthExceeded(
                f"The {what} has {len(tokens):,} tokens; this model takes at most {most:,}."
                " Shorten it, or use a model with a longer context.",
                field=what,
            )

    def write_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """A chat as the model's template writes it, ready for the next answer."""
        if not self.tokenizer.chat_template:
            raise InvalidInput(
                "This model has no chat template: it was not taught to chat. Ask it to complete a"
                " prompt instead.",
                field="messages",
            )
        try:
            text = self.tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # a template is a program of its own
            raise InvalidInput(
                f"The model's chat template refuses this: {first_line(error)}", field="messages"
            ) from error
        (tokens,) = self.encode([text], add_special_tokens=False)
        return tokens


def _longest(model: Any, tokenizer: Any) -> int | None:
    """Tokens that the model takes at once. Relative positions, as T5's, know no end; then it is
    what the tokenizer names, if it does."""
    named: int = tokenizer.model_max_length
    return count_positions(model, tokenizer) or (named if named < NO_LIMIT else None)


def _read_preprocess(folder: Path) -> dict[str, Any]:
    path = folder / "preprocess.json"
    return read_json(path) if path.is_file() else {}
