"""What the two recipes share that learn to write: token loss, token accuracy, sampled answers."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import Any

import numpy as np
import torch

from ml.config import CausalConfig, Text2TextConfig
from ml.train.recipes.language import LanguageTask
from ml.train.recipes.tokens import IGNORED, TokenRows
from ml.train.task import Check, Evaluation, split


class GenerationTask(LanguageTask):
    counts_tokens = True
    can_match = True
    """Whether an answer can be right as a whole; the rest of a text cannot."""

    settings: Text2TextConfig | CausalConfig
    longest_answer: int
    labels: TokenRows

    def _prepare(self) -> None:
        super()._prepare()
        self.labels = self._open_labels()

    def _open_labels(self) -> TokenRows:
        return TokenRows(self.folder / "tokens", "labels")

    def _count_labels(self) -> np.ndarray:
        return self.labels.label_counts

    @abstractmethod
    def guesses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """How many labels have the highest of their logits (rows, tokens, vocabulary)."""

    @abstractmethod
    def question(self, row: int) -> tuple[list[int], str, str]:
        """Tokens to begin with, and as texts: what is asked, what is expected."""

    @abstractmethod
    def answer(self, output: list[int], asked: int) -> list[int]:
        """The new tokens of what the model generated from so many."""

    def loss(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        with self.autocast():
            output = self.module(**batch)
        return output.loss.float(), self.guesses(output.logits, batch["labels"])

    def evaluate(self, batch_size: int, check: Check) -> Evaluation:
        if not len(self.validation_rows):
            return Evaluation()
        self.module.eval()
        total = self.weight(self.validation_rows)
        loss, right = 0.0, 0
        with torch.inference_mode():
            for rows in split(self.validation_rows, batch_size):
                check()
                mean, correct = self.loss(self.batch(rows))
                loss += mean.item() * self.weight(rows) / total
                right += int(correct)
            samples = [self._sample(row, check) for row in self._sampled_rows()]
        extra = self.measures(loss)
        if samples and self.can_match:
            hits = sum(each["generated"].strip() == each["expected"].strip() for each in samples)
            extra["exact_match"] = hits / len(samples)
        events = [("sample", {"samples": samples})] if samples else []
        return Evaluation(val_loss=loss, val_accuracy=right / total, extra=extra, events=events)

    def measures(self, val_loss: float) -> dict[str, Any]:
        return {}

    def _sampled_rows(self) -> list[int]:
        """Evenly from the validation rows: the same ones after each epoch."""
        known = self.asked_rows()
        count = min(self.settings.generate_samples, len(known))
        rows: list[int] = known[np.linspace(0, len(known) - 1, count, dtype=int)].tolist()
        return rows

    def asked_rows(self) -> np.ndarray:
        """What question() knows, of what is held back."""
        return self.validation_rows

    def _sample(self, row: int, check: Check) -> dict[str, str]:
        check()
        asked, prompt, expected = self.question(row)
        output = self._generate(torch.tensor([asked], device=self.device))
        told = self.read(self.answer(output, len(asked)))
        return {"prompt": prompt, "generated": told, "expected": expected}

    def read(self, tokens: list[int]) -> str:
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return text

    def room_for_answer(self, asked: int) -> int:
        return self.longest_answer

    def _generate(self, tokens: torch.Tensor) -> list[int]:
        """Always the likeliest token, so that no random number is drawn."""
        settings = copy.deepcopy(self.module.generation_config)
        settings.update(
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_k=None,
            top_p=None,
            max_length=None,
            max_new_tokens=self.room_for_answer(tokens.shape[1]),
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=self.tokenizer.eos_token_id,
        )
        with self.autocast():
            output = self.module.generate(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                generation_config=settings,
            )
        found: list[int] = output[0].tolist()
        return found


def count_right(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return ((logits.argmax(dim=-1) == labels) & (labels != IGNORED)).sum()
