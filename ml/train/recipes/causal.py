"""The recipe `causal`: a decoder learns to go on with a text, an answer or a chat."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from ml.config import CausalConfig
from ml.train.errors import TrainingFailed
from ml.train.recipes.generation import GenerationTask, count_right
from ml.train.recipes.language import IGNORED, Tokens
from ml.train.recipes.texts import Message

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
"""For models that were never taught to chat."""
MOST_ASKED = 32
"""Tokens of a text that its continuation is asked for."""
LARGEST_EXPONENT = 700.0


class CausalTask(GenerationTask):
    auto_class = AutoModelForCausalLM
    adapter_task = "CAUSAL_LM"
    settings: CausalConfig

    def _encode(self) -> tuple[Tokens, Tokens]:
        if self.records.chats and not self.tokenizer.chat_template:
            self.tokenizer.chat_template = CHAT_TEMPLATE
        self.longest_answer = self.settings.max_new_tokens
        self.can_match = not self.records.texts
        pairs: list[tuple[list[int], list[int]]]
        if self.records.texts:
            pairs = [([], tokens) for tokens in self._whole_texts()]
        elif self.records.prompts:
            prompts = self.tokenizer(self.records.prompts)["input_ids"]
            pairs = list(zip(map(self._open, prompts), self._answers(), strict=True))
        else:
            return self._encode_chats()
        joined = [self._join(prompt, answer) for prompt, answer in pairs]
        self.tell_cut(
            sum(len(prompt) + len(answer) > self.max_length for prompt, answer in pairs),
            self.max_length,
            "samples",
        )
        return [tokens for tokens, _ in joined], [labels for _, labels in joined]

    def _whole_texts(self) -> Tokens:
        tokens = self.tokenizer(self.records.texts)["input_ids"]
        return [self._closed(self._open(numbers)) for numbers in tokens]

    def _answers(self) -> Tokens:
        tokens = self.tokenizer(self.records.answers, add_special_tokens=False)["input_ids"]
        return [self._closed(numbers) for numbers in tokens]

    def _open(self, tokens: list[int]) -> list[int]:
        """Some tokenizers put an end after every text; here the text goes on."""
        end = self.tokenizer.eos_token_id
        return tokens[:-1] if tokens and tokens[-1] == end else tokens

    def _closed(self, tokens: list[int]) -> list[int]:
        end = self.tokenizer.eos_token_id
        return tokens if end is None else [*tokens, end]

    def _join(self, prompt: list[int], answer: list[int]) -> tuple[list[int], list[int]]:
        """What is too long loses the beginning of its prompt, then the end of its answer."""
        answer = answer[: self.max_length]
        room = self.max_length - len(answer)
        prompt = prompt[max(0, len(prompt) - room) :]
        labels = [IGNORED] * len(prompt) + answer
        # Nothing stands before the first token that could foretell it.
        return prompt + answer, [IGNORED, *labels[1:]]

    def _encode_chats(self) -> tuple[Tokens, Tokens]:
        chats = [self._encode_chat(chat) for chat in self.records.chats]
        longest = self.max_length
        self.tell_cut(sum(len(tokens) > longest for tokens, _ in chats), longest, "chats")
        return [tokens[:longest] for tokens, _ in chats], [labels[:longest] for _, labels in chats]

    def _encode_chat(self, chat: list[Message]) -> tuple[list[int], list[int]]:
        """The chat as its template writes it; only what the assistant says is learned."""
        tokens: list[int] = []
        labels: list[int] = []
        written = ""
        for place, message in enumerate(chat):
            if message["role"] != "assistant":
                continue
            for is_learned, text in (
                (False, self._write(chat[:place], asks=True)),
                (True, self._write(chat[: place + 1], asks=False)),
            ):
                if not text.startswith(written):
                    raise TrainingFailed(
                        "spec_error",
                        "The chat template of this model rewrites what was said before, so that "
                        "answers cannot be told from questions; use prompt and completion.",
                    )
                numbers = self.tokenizer(text[len(written) :], add_special_tokens=False)
                tokens += numbers["input_ids"]
                labels += [number if is_learned else IGNORED for number in numbers["input_ids"]]
                written = text
        end = self.tokenizer.eos_token_id
        if end is not None and end not in tokens[-2:]:  # a template may close each turn itself
            tokens, labels = [*tokens, end], [*labels, end]
        return tokens, labels

    def _write(self, chat: list[Message], *, asks: bool) -> str:
        text: str = self.tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=asks
        )
        return text

    def batch(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        labels = [self.labels[row] for row in rows.tolist()]
        return {**self.pad_inputs(rows), "labels": self.pad(labels, IGNORED)}

    def guesses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return count_right(logits[:, :-1], labels[:, 1:])

    def question(self, row: int) -> tuple[list[int], str, str]:
        tokens, labels = self.inputs[row], self.labels[row]
        if self.records.texts:
            place = min(MOST_ASKED, max(1, len(tokens) // 2))
        else:
            place = max(1, next(at for at, label in enumerate(labels) if label != IGNORED))
        asked = tokens[:place][-(self.max_length - 1) :]
        end = next((at for at in range(place, len(labels)) if labels[at] == IGNORED), len(labels))
        expected = tokens[place:end][: self.settings.max_new_tokens]
        return asked, self.read(asked), self.read(expected)

    def answer(self, output: list[int], asked: int) -> list[int]:
        return output[asked:]

    def room_for_answer(self, asked: int) -> int:
        if self.positions is None:
            return self.longest_answer
        return min(self.longest_answer, self.positions - asked)

    def measures(self, val_loss: float) -> dict[str, Any]:
        return {"perplexity": math.exp(min(val_loss, LARGEST_EXPONENT))}

    def preprocess(self) -> dict[str, Any]:
        return {**super().preprocess(), "max_new_tokens": self.settings.max_new_tokens}
