"""The recipe `text2text`: an encoder-decoder learns to turn one text into another."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSeq2SeqLM

from ml.config import Text2TextConfig
from ml.train.recipes.generation import GenerationTask, count_right
from ml.train.recipes.language import IGNORED, Tokens


class Text2TextTask(GenerationTask):
    auto_class = AutoModelForSeq2SeqLM
    adapter_task = "SEQ_2_SEQ_LM"
    settings: Text2TextConfig

    def _encode(self) -> tuple[Tokens, Tokens]:
        prefix = self.settings.prefix
        prompts = [prefix + prompt for prompt in self.records.prompts]
        inputs = self.tokenize(prompts, self.max_length, "inputs")
        self.longest_answer = self.fit("max_target_length", self.settings.max_target_length)
        answers = self.records.answers
        labels = self.tokenize(answers, self.longest_answer, "answers", "text_target")
        return inputs, labels

    def batch(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        labels = [self.labels[row] for row in rows.tolist()]
        return {**self.pad_inputs(rows), "labels": self.pad(labels, IGNORED)}

    def guesses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return count_right(logits, labels)

    def question(self, row: int) -> tuple[list[int], str, str]:
        return self.inputs[row].tolist(), self.records.prompts[row], self.records.answers[row]

    def answer(self, output: list[int], asked: int) -> list[int]:
        return output

    def preprocess(self) -> dict[str, Any]:
        more = {"prefix": self.settings.prefix, "max_target_length": self.longest_answer}
        return {**super().preprocess(), **more}
