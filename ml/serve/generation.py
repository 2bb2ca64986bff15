"""Continuous batching: texts of many requests are written together, a token each at a time.

Who comes joins at the next token and who is done leaves, so a short answer never waits for a long
one. What all rows remember stays below a number of bytes: a row begins only when it fits to its
very end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from ml.serve import queue
from ml.serve.errors import ComputeFailed, LoadRefused, QueueFull, ServeError, first_line
from ml.serve.language import Language
from ml.serve.rows import open_rows
from ml.serve.sampling import Sampler, Sampling
from ml.serve.writer import Writer

MEBIBYTE = 2**20
CACHE_BYTES = 256 * MEBIBYTE
"""What rows may remember together, at least; a large model may take as much as its weights."""
BEGIN_TOKENS = 4096
"""Of prompts that begin together, fillers included: those who are being written wait for them."""

Tell = Callable[[int, str], None]
"""Which of a request's texts, and what it goes on with."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    rows: int = 64
    """Written at the same time."""
    queue: int = 256
    """Requests that may wait; one more is refused at once."""
    cache_bytes: int = CACHE_BYTES


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is to be written. `prompt` are tokens."""

    prompt: list[int]
    most: int
    """New tokens."""
    count: int = 1
    """Texts."""
    sampling: Sampling = field(default_factory=Sampling)
    seed: int | None = None
    stops: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Text:
    """What was written.

    `endings`: of each text, `stop` (it came to its end, or to a stop string) or `length`.
    """

    texts: list[str]
    endings: list[str]
    prompt_tokens: int
    completion_tokens: int
    queue_seconds: float
    first_token_seconds: float
    """Since it was asked."""
    seconds: float


@dataclass
class Stats(queue.Stats):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    steps: int = 0


class Row:
    """One of the texts that a request asks for."""

    def __init__(self, item: Item, number: int, tokenizer: Any, device: torch.device) -> None:
        seed = None if item.wish.seed is None else (item.wish.seed + number) % 2**63
        self.item, self.number = item, number
        self.sampler = Sampler(item.wish.sampling, seed, device)
        self.writer = Writer(tokenizer, item.wish.stops, is_heard=item.tell is not None)
        self.count = 0
        self.last = 0
        self.ending = ""

    @property
    def size(self) -> int:
        return len(self.item.wish.prompt) + self.item.wish.most

    @property
    def is_wanted(self) -> bool:
        return not self.ending and not self.item.future.done()

    def take(self, token: int, ends: frozenset[int]) -> None:
        self.last = token
        self.count += 1
        if token in ends:
            self.ending = "stop"
        else:
            self._say(self.writer.add(token))
            if self.writer.is_stopped:
                self.ending = "stop"
            elif self.count == self.item.wish.most:
                self.ending = "length"
        if self.ending:
            self._say(self.writer.end())
            # The rest of the last characters may complete a stop string.
            self.ending = "stop" if self.writer.is_stopped else self.ending

    def _say(self, piece: str) -> None:
        if piece and self.item.tell is not None:
            self.item.tell(self.number, piece)


@dataclass(eq=False, slots=True)
class Item(queue.Item[Text]):
    wish: Wish
    tell: Tell | None
    rows: list[Row] = field(default_factory=list)
    """Once they are being written."""
    begun_at: float = 0.0
    first_at: float = 0.0


Choice = tuple[Row, int | ServeError]


class Generation(queue.Queue[Item, Stats]):
    """The engine of one model that writes."""

    def __init__(self, language: Language, limits: Limits | None = None) -> None:
        super().__init__(Stats())
        self.language = language
        self._limits = limits or Limits()
        self._rows = open_rows(language)
        self._ends = find_ends(language)
        self._written: list[Row] = []
        self.room = 0
        """Tokens that all rows may remember together; room for those to come is beside it."""
        self.context = 0
        """Tokens of a prompt and its answer."""

    async def warm_up(self) -> None:
        """Two rows, two tokens: that it works, and what a token takes. Raises LoadRefused."""
        self.room = await self._loop.run_in_executor(self._thread, self._measure)
        longest = self.language.longest
        self.context = self.room if longest is None else min(longest, self.room)

    def describe(self) -> dict[str, Any]:
        text = {"name": "text", "datatype": "BYTES", "shape": [-1]}
        signature = {
            "inputs": [{**text, "name": "prompt"}],
            "outputs": [text],
            "context_length": self.context,
            "can_chat": bool(self.language.tokenizer.chat_template),
        }
        return {"signature": signature, "is_batchable": True}

    def submit(
        self, wish: Wish, timeout_seconds: float, tell: Tell | None = None
    ) -> asyncio.Future[Text]:
        """The answer to come; cancel it and its rows are dropped at the next token. Raises
        QueueFull; the future raises DeadlineMissed and ComputeFailed. `wish` fits the context."""
        if self.stats.waiting >= self._limits.queue:
            self.stats.refused += 1
            raise QueueFull(f"{self.stats.waiting} requests wait for this model already.")
        item = Item(1, self._loop.time(), self._loop.create_future(), wish, tell)
        self._take_in(item, timeout_seconds)
        return item.future

    # --- Taking in ------------------------------------------------------------------------

    def _admit(self) -> list[Row]:
        """The rows that begin now: the oldest requests first, as long as they fit."""
        joining: list[Row] = []
        passed: list[Item] = []
        if self._written and not self._rows.joins_midway:
            return joining
        while item := self._next():
            rows = [self._row(item, number) for number in range(item.wish.count)]
            if not self._fits(joining, rows):
                passed.append(item)
                if self._rows.joins_midway:  # whoever is too large for now is not overtaken
                    break
                continue
            self._stop_waiting(item)
            item.rows, item.begun_at = rows, self._loop.time()
            self.stats.queue_seconds += item.begun_at - item.queued_at
            joining += rows
        self._return(passed)
        return joining

    def _row(self, item: Item, number: int) -> Row:
        return Row(item, number, self.language.tokenizer, self.language.device)

    def _fits(self, joining: list[Row], rows: list[Row]) -> bool:
        """Alone always: a request was checked against the context when it came."""
        if not (joining or self._written):
            return True
        after = [*self._written, *joining, *rows]
        prompts = [len(row.item.wish.prompt) for row in (*joining, *rows)]
        is_alike = self._rows.joins_midway or _bucket(prompts[0]) == _bucket(prompts[-1])
        return (
            is_alike
            and len(after) <= self._limits.rows
            and len(after) * max(row.size for row in after) <= self.room
            and (not joining or len(prompts) * max(prompts) <= BEGIN_TOKENS)
        )

    # --- Writing --------------------------------------------------------------------------

    async def _work(self) -> None:
        while self._waiting or self._written:
            await self._write()

    async def _write(self) -> None:
        """One token for everybody."""
        kept = _close_up([row.is_wanted for row in self._written])
        has_left = len(kept) < len(self._written)
        self._written = [self._written[place] for place in kept]
        joining = self._admit()
        if not (self._written or joining or has_left):
            return
        started = self._loop.time()
        self._written, tokens = await self._loop.run_in_executor(
            self._thread, self._compute, kept if has_left else None, self._written, joining
        )
        self._count(started)
        for row, token in tokens:
            self._take(row, token)

    def _count(self, started: float) -> None:
        self.stats.steps += 1
        self.stats.compute_seconds += self._loop.time() - started
        self.stats.running_rows = len(self._written)
        self.stats.largest_batch_rows = max(self.stats.largest_batch_rows, len(self._written))

    def _take(self, row: Row, token: int | ServeError) -> None:
        item = row.item
        if isinstance(token, ServeError):
            row.ending = "failed"
            if not item.future.done():
                self.stats.failed += 1
                item.future.set_exception(token)
        elif row.is_wanted:
            item.first_at = item.first_at or self._loop.time()
            row.take(token, self._ends)
            if all(each.ending for each in item.rows):
                item.future.set_result(self._answer(item))

    def _answer(self, item: Item) -> Text:
        now, tokens = self._loop.time(), sum(row.count for row in item.rows)
        self.stats.requests += 1
        self.stats.prompt_tokens += len(item.wish.prompt)
        self.stats.completion_tokens += tokens
        return Text(
            texts=[row.writer.text for row in item.rows],
            endings=[row.ending for row in item.rows],
            prompt_tokens=len(item.wish.prompt),
            completion_tokens=tokens,
            queue_seconds=item.begun_at - item.queued_at,
            first_token_seconds=item.first_at - item.queued_at,
            seconds=now - item.queued_at,
        )

    # --- In the thread --------------------------------------------------------------------

    @torch.inference_mode()
    def _compute(
        self, kept: list[int] | None, old: list[Row], joining: list[Row]
    ) -> tuple[list[Row], list[Choice]]:
        """The rows that are being written now, and what comes next in each, or went wrong."""
        if kept is not None:
            self._rows.keep(kept)
        written: list[Row] = []
        tokens: list[Choice] = []
        if old:
            try:
                tokens += _choose(old, self._rows.step([row.last for row in old]))
                written += old
            except Exception as error:  # noqa: BLE001  (whatever the library raises)
                self._rows.keep([])  # half a step may have been remembered
                tokens += [(row, _failed(error)) for row in old]
        for rows in _alike(joining):
            try:
                prompts = [row.item.wish.prompt for row in rows]
                tokens += _choose(rows, self._rows.begin(prompts))
                written += rows
            except Exception as error:  # noqa: BLE001
                tokens += [(row, _failed(error)) for row in rows]
        return written, tokens

    @torch.inference_mode()
    def _measure(self) -> int:
        """Tokens that may be remembered at once, by what two rows of two tokens take."""
        torch.set_num_threads(self.language.threads)
        token = min(self._ends, default=0)
        try:
            self._rows.begin([[token], [token, token]])
            self._rows.step([token, token])
            taken = self._rows.count_bytes() / (2 * 3)
            self._rows.keep([])
        except (LoadRefused, MemoryError):
            raise
        except Exception as error:
            raise LoadRefused(f"The model cannot write: {_failed(error).message}") from error
        weights = sum(each.nbytes for each in self.language.model.parameters())
        return int(max(self._limits.cache_bytes, weights) / taken)


def _choose(rows: list[Row], logits: torch.Tensor) -> list[Choice]:
    """The likeliest tokens of all rows are found at once, and used where no other is drawn."""
    best = logits.argmax(dim=1).tolist()
    return [(row, row.sampler.choose(logits[place], best[place])) for place, row in enumerate(rows)]


def find_ends(language: Language) -> frozenset[int]:
    """The tokens that end a text."""
    found = [language.model.generation_config.eos_token_id, language.tokenizer.eos_token_id]
    numbers = [each for one in found for each in (one if isinstance(one, list) else [one])]
    return frozenset(number for number in numbers if number is not None)


def _close_up(wanted: list[bool]) -> list[int]:
    """Places of the wanted rows, in an order that moves few: the last ones fill the gaps."""
    count = sum(wanted)
    rest = (place for place in range(count, len(wanted)) if wanted[place])
    return [place if wanted[place] else next(rest) for place in range(count)]


def _alike(rows: list[Row]) -> Iterator[list[Row]]:
    """Those whose prompts have about the same length: what fills up the shorter ones is computed
    like everything else."""
    groups: dict[int, list[Row]] = {}
    for row in rows:
        groups.setdefault(_bucket(len(row.item.wish.prompt)), []).append(row)
    yield from groups.values()


def _bucket(length: int) -> int:
    """In each, the longest is at most twice as long as the shortest."""
    return length.bit_length()


def _failed(error: Exception) -> ComputeFailed:
    return ComputeFailed(f"The model could not go on: {first_line(error)}")
