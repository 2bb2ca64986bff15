"""The recipe `causal`: a decoder learns to go on with a text, an answer or a chat."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from ml.config import CausalConfig
from ml.train.errors import TrainingFailed
from ml.train.recipes.generation import GenerationTask, count_right
from ml.train.recipes.language import Cut
from ml.train.recipes.packing import cut_blocks, join_texts
from ml.train.recipes.texts import Message
from ml.train.recipes.tokens import IGNORED, TokenRows, TokenWriter, write_rows

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
"""For models that were never taught to chat."""
REWRITES = (
    "The chat template of this model rewrites what was said before: each answer of a chat is a "
    "sample of its own, after the chat as it was written then."
)
MOST_ASKED = 32
"""Tokens of a text that its continuation is asked for."""
LARGEST_EXPONENT = 700.0
Encoded = tuple[list[int], list[int]]
"""Tokens of a sample, and its labels."""


class CausalTask(GenerationTask):
    auto_class = AutoModelForCausalLM
    adapter_task = "CAUSAL_LM"
    settings: CausalConfig

    def _prepare(self) -> None:
        if self.records.fields.messages and not self.tokenizer.chat_template:
            self.tokenizer.chat_template = CHAT_TEMPLATE
        self.longest_answer = self.settings.max_new_tokens
        self.is_text = self.records.fields.text is not None
        self.is_packed = self.is_text and self.settings.packing
        self.can_match = not self.is_text
        self.texts_held_back = self.validation_rows
        super()._prepare()
        self.bytes_held_back = 0
        if self.is_packed:
            self.bytes_held_back = int(np.load(self.folder / "tokens" / "bytes.npy"))

    def _encode(self, folder: Path, tell: Callable[[str], None]) -> None:
        if self.is_packed:
            self._pack(folder)
        elif self.is_text:
            self._encode_texts(folder, tell)
        elif self.records.fields.prompt:
            self._encode_pairs(folder, tell)
        else:
            self._encode_chats(folder, tell)

    def _open_labels(self) -> TokenRows:
        """Texts are their own labels; of prompts and chats it was written what is learned."""
        folder = self.folder / "tokens"
        if self.is_text:
            return TokenRows(folder, "inputs", hides_first=True)
        return TokenRows(folder, "labels")

    def _pack(self, folder: Path) -> None:
        """Blocks take the place of rows: those to learn from, then those held back."""
        end = self.tokenizer.eos_token_id
        if end is None:
            sentence = "packing needs a tokenizer with an end of text; set packing to false."
            raise TrainingFailed("spec_error", sentence)
        sizes = []
        with TokenWriter(folder, "inputs") as stream:
            for rows in (self.train_rows, self.validation_rows):
                before = stream.size
                for tokens in join_texts(self._open_texts(rows), end):
                    stream.extend(tokens)
                sizes.append(stream.size - before)
        learned, held_back = (np.stack(cut_blocks(size, self.max_length)) for size in sizes)
        starts, ends = np.concatenate([learned, held_back + sizes[0]], axis=1)
        write_rows(folder, "inputs", starts, ends, ends - starts)
        written = self.records.texts_of(self.validation_rows)
        np.save(folder / "bytes.npy", sum(len(text.encode()) for text in written))
        self.train_rows = np.arange(learned.shape[1])
        self.validation_rows = learned.shape[1] + np.arange(held_back.shape[1])

    def _encode_texts(self, folder: Path, tell: Callable[[str], None]) -> None:
        cut = Cut(self.max_length, "texts")
        with TokenWriter(folder, "inputs") as inputs:
            for tokens in self._open_texts(np.arange(len(self.records))):
                text = self._closed(tokens)
                cut.count([text])
                inputs.write(text[: self.max_length])
        cut.tell(tell)

    def _open_texts(self, rows: np.ndarray) -> Iterator[list[int]]:
        """Tokens of the texts of these rows, without an end."""
        for part in self.read_rows(rows):
            yield from map(self._open, self.tokenizer(part.texts)["input_ids"])

    def _encode_pairs(self, folder: Path, tell: Callable[[str], None]) -> None:
        cut = Cut(self.max_length, "samples")
        with TokenWriter(folder, "inputs") as inputs, TokenWriter(folder, "labels") as labels:
            for prompt, answer in self._open_pairs():
                cut.count([prompt + answer])
                tokens, learned = self._join(prompt, answer)
                inputs.write(tokens)
                labels.write(hide_first(learned))
        cut.tell(tell)

    def _open_pairs(self) -> Iterator[Encoded]:
        for part in self.read_rows():
            prompts = map(self._open, self.tokenizer(part.prompts)["input_ids"])
            answers = self.tokenizer(part.answers, add_special_tokens=False)["input_ids"]
            yield from zip(prompts, map(self._closed, answers), strict=True)

    def _open(self, tokens: list[int]) -> list[int]:
        """Some tokenizers put an end after every text; here the text goes on."""
        end = self.tokenizer.eos_token_id
        return tokens[:-1] if tokens and tokens[-1] == end else tokens

    def _closed(self, tokens: list[int]) -> list[int]:
        end = self.tokenizer.eos_token_id
        return tokens if end is None else [*tokens, end]

    def _join(self, prompt: list[int], answer: list[int]) -> Encoded:
        """What is too long loses the beginning of its prompt, then the end of its answer."""
        answer = answer[: self.max_length]
        room = self.max_length - len(answer)
        prompt = prompt[max(0, len(prompt) - room) :]
        return prompt + answer, [IGNORED] * len(prompt) + answer

    def _encode_chats(self, folder: Path, tell: Callable[[str], None]) -> None:
        """A sample a chat, or, where the template demands it, one for each of its answers."""
        cut, longest = Cut(self.max_length, "chats"), self.max_length
        counts = []
        parts = self.read_rows()
        with TokenWriter(folder, "inputs") as inputs, TokenWriter(folder, "labels") as labels:
            for chat in itertools.chain.from_iterable(part.chats for part in parts):
                samples = self._encode_chat(chat)
                counts.append(len(samples))
                for tokens, learned in samples:
                    cut.count([tokens])
                    inputs.write(tokens[:longest])
                    labels.write(hide_first(learned[:longest]))
        chat_of = np.repeat(np.arange(len(counts)), counts)
        if len(chat_of) > len(counts):
            tell(REWRITES)
        self.train_rows = np.flatnonzero(np.isin(chat_of, self.train_rows))
        self.validation_rows = np.flatnonzero(np.isin(chat_of, self.validation_rows))
        cut.tell(tell)

    def _encode_chat(self, chat: list[Message]) -> list[Encoded]:
        """The chat as its template writes it; only what the assistant says is learned."""
        turns = [
            (self._write(chat[:place], asks=True), self._write(chat[: place + 1], asks=False))
            for place, message in enumerate(chat)
            if message["role"] == "assistant"
        ]
        if not all(answered.startswith(asked) for asked, answered in turns):
            raise TrainingFailed(
                "spec_error",
                "The chat template of this model writes an answer otherwise than it asks for it, "
                "so that answers cannot be told from questions; use prompt and completion.",
            )
        texts = list(itertools.chain.from_iterable(turns))
        if all(after.startswith(before) for before, after in itertools.pairwise(texts)):
            return [self._learn_answers(texts)]
        return [self._learn_answers(turn) for turn in turns]

    def _learn_answers(self, texts: Sequence[str]) -> Encoded:
        """Of texts that each go on with the one before: by turns what is asked, and answered."""
        tokens: list[int] = []
        labels: list[int] = []
        written = 0
        for place, text in enumerate(texts):
            added = self.tokenizer(text[written:], add_special_tokens=False)["input_ids"]
            tokens += added
            labels += added if place % 2 else [IGNORED] * len(added)
            written = len(text)
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

    def asked_rows(self) -> np.ndarray:
        return self.texts_held_back if self.is_packed else self.validation_rows

    def question(self, row: int) -> tuple[list[int], str, str]:
        if self.is_text:  # from its beginning, whatever block that is in
            [tokens] = self._open_texts(np.array([row]))
            place = min(MOST_ASKED, max(1, len(tokens) // 2))
            end = len(tokens)
        else:
            tokens, labels = self.inputs[row].tolist(), self.labels[row].tolist()
            place = max(1, next(at for at, label in enumerate(labels) if label != IGNORED))
            rest = range(place, len(labels))
            end = next((at for at in rest if labels[at] == IGNORED), len(labels))
        asked = tokens[:place][-(self.max_length - 1) :]
        expected = tokens[place:end][: self.settings.max_new_tokens]
        return asked, self.read(asked), self.read(expected)

    def answer(self, output: list[int], asked: int) -> list[int]:
        return output[asked:]

    def room_for_answer(self, asked: int) -> int:
        if self.positions is None:
            return self.longest_answer
        return min(self.longest_answer, self.positions - asked)

    def describe(self) -> list[str]:
        packed = f"texts are packed: a row is a block of {self.max_length} tokens, none is lost"
        return [*super().describe(), *([packed] if self.is_packed else [])]

    def measures(self, val_loss: float) -> dict[str, Any]:
        found = {"perplexity": math.exp(min(val_loss, LARGEST_EXPONENT))}
        if self.bytes_held_back:
            nats = val_loss * self.weight(self.validation_rows)
            found["bits_per_byte"] = nats / math.log(2) / self.bytes_held_back
        return found

    def preprocess(self) -> dict[str, Any]:
        return {**super().preprocess(), "max_new_tokens": self.settings.max_new_tokens}


def hide_first(labels: list[int]) -> list[int]:
    """Nothing stands before the first token that could foretell it."""
    return [IGNORED, *labels[1:]] if labels else labels
