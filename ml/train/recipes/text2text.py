"""The recipe `text2text`: an encoder-decoder learns to turn one text into another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSeq2SeqLM

from ml.config import Text2TextConfig
from ml.train.recipes.generation import GenerationTask, count_right
from ml.train.recipes.language import Cut
from ml.train.recipes.tokens import IGNORED, TokenWriter


class Text2TextTask(GenerationTask):
    auto_class = AutoModelForSeq2SeqLM
    adapter_task = "SEQ_2_SEQ_LM"
    settings: Text2TextConfig

    def _prepare(self) -> None:
        self.longest_answer = self.fit("max_target_length", self.settings.max_target_length)
        super()._prepare()

    def _encode(self, folder: Path, tell: Callable[[str], None]) -> None:
        prefix = self.settings.prefix
        inputs, answers = Cut(self.max_length, "inputs"), Cut(self.longest_answer, "answers")
        with TokenWriter(folder, "inputs") as asked, TokenWriter(folder, "labels") as told:
            for part in self.read_rows():
                for tokens in self.tokenize([prefix + each for each in part.prompts], inputs):
                    asked.write(tokens)
                for tokens in self.tokenize(part.answers, answers, "text_target"):
                    told.write(tokens)
        inputs.tell(tell)
        answers.tell(tell)

    def batch(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        labels = [self.labels[row] for row in rows.tolist()]
        return {**self.pad_inputs(rows), "labels": self.pad(labels, IGNORED)}

    def guesses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return count_right(logits, labels)

    def question(self, row: int) -> tuple[list[int], str, str]:
        [part] = self.records.read(np.array([row]))
        return self.inputs[row].tolist(), part.prompts[0], part.answers[0]

    def answer(self, output: list[int], asked: int) -> list[int]:
        return output

    def preprocess(self) -> dict[str, Any]:
        more = {"prefix": self.settings.prefix, "max_target_length": self.longest_answer}
        return {**super().preprocess(), **more}
