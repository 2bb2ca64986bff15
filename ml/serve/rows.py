"""The texts that a model is writing at the moment, a row each, and what it remembers of them.

`begin` takes rows in and `step` goes on with all of them; both give the logits of the next tokens,
(rows, vocabulary). `keep` forgets the rows that are done, and puts the others in another order.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch.nn.functional import pad
from transformers import Cache, DynamicCache, EncoderDecoderCache
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import BaseModelOutput

from ml.serve.errors import LoadRefused
from ml.serve.language import Language

MORE_TOKENS = 64
"""Room is made for so many at once."""


class Rows(Protocol):
    joins_midway: bool
    """Whether rows may begin while others are being written."""

    def begin(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor: ...

    def step(self, tokens: Sequence[int]) -> torch.Tensor: ...

    def keep(self, rows: Sequence[int]) -> None:
        """rows[n] becomes row n, and was not before it: n ≤ rows[n]."""

    def count_bytes(self) -> int:
        """What is remembered takes so much memory."""


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values of each token, (rows, heads, tokens, width): a window in room for more rows
    and tokens, so that hardly anything is copied when a token or a row comes or goes, once there is
    room. DynamicLayer copies everything each time, which a small model notices.

    All rows end in the last column. Shorter ones begin with zeros there, which are masked: what
    another row left behind could be infinite, and shine through the mask.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._hold(key_states, value_states)
            return self.keys, self.values
        rows, new = len(key_states), key_states.shape[-2]
        if self._last + new > self._rooms[0].shape[-2]:
            self._hold(self.keys, self.values, more=new)
        before, after = self._last, self._last + new
        for room, states in zip(self._rooms, (key_states, value_states), strict=True):
            room[:rows, :, before:after] = states
        self._show(rows, self._first, after)
        return self.keys, self.values

    def make_room(self, rows: int, tokens: int) -> None:
        """For so many more rows of so many tokens; what is held stays as it is."""
        held = len(self.keys)
        if held + rows > len(self._rooms[0]) or tokens > self._last:
            self._hold(self.keys, self.values, rows=held + rows, tokens=tokens)

    def join(self, other: RoomyLayer) -> None:
        """The rows of `other` below those here; there is room for them."""
        held = len(self.keys)
        new, _, tokens, _ = other.keys.shape
        own = self._last - tokens
        first = min(self._first, own)
        for room, states in zip(self._rooms, (other.keys, other.values), strict=True):
            room[:held, :, first : self._first] = 0
            room[held : held + new, :, first:own] = 0
            room[held : held + new, :, own : self._last] = states
        self._show(held + new, first, self._last)

    def keep(self, rows: Sequence[int], empty: int) -> None:
        """As Rows.keep; the first `empty` columns are zeros in all of these rows."""
        first = self._first + empty
        for room in self._rooms:
            for place, row in enumerate(rows):
                if place != row:
                    room[place, :, first : self._last] = room[row, :, first : self._last]
        self._show(len(rows), first, self._last)

    def _hold(
        self,
        keys: torch.Tensor,
        values: torch.Tensor,
        rows: int = 0,
        tokens: int = 0,
        more: int = 0,
    ) -> None:
        """In new room, for at least so many rows and tokens, and `more` tokens to come and some."""
        held, heads, length, _ = keys.shape
        last = max(length, tokens)
        self._rooms = [
            each.new_empty(max(held, rows), heads, last + more + MORE_TOKENS, each.shape[-1])
            for each in (keys, values)
        ]
        self._show(held, last - length, last)
        self.keys.copy_(keys)
        self.values.copy_(values)

    def _show(self, rows: int, first: int, last: int) -> None:
        self._first, self._last = first, last
        self.keys, self.values = (room[:rows, :, first:last] for room in self._rooms)


class CausalRows:
    """A decoder. What is remembered of shorter rows is filled up on the left, and masked."""

    joins_midway = True

    def __init__(self, language: Language) -> None:
        self._language, self._model, self._device = language, language.model, language.device
        known = inspect.signature(self._model.forward).parameters
        self._counts_positions = "position_ids" in known
        self._options = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
        self._cache: Any
        self._mask: torch.Tensor
        self._forget()

    def begin(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        ids, mask = self._language.fill_up(prompts, on_left=True)
        cache = _new_cache()
        logits = self._compute(ids, mask, cache)
        self._join(cache, mask)
        return logits

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        ids = torch.tensor(tokens, device=self._device)[:, None]
        mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        logits = self._compute(ids, mask, self._cache)
        self._mask = mask
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        if not rows:
            self._forget()
            return
        mask = self._mask[torch.tensor(rows, device=self._device)]
        empty = int(mask.any(dim=0).int().argmax())  # columns that only those who left had filled
        self._mask = mask[:, empty:]
        for layer in self._cache.layers:
            layer.keep(rows, empty)

    def count_bytes(self) -> int:
        return _count_bytes(self._cache)

    def _forget(self) -> None:
        self._cache = _new_cache()
        self._mask = torch.zeros(0, 0, dtype=torch.long, device=self._device)

    def _compute(self, ids: torch.Tensor, mask: torch.Tensor, cache: Any) -> torch.Tensor:
        options: dict[str, Any] = dict(self._options)
        if self._counts_positions:
            places = (mask.cumsum(dim=1) - 1).clamp(min=0)
            options["position_ids"] = places[:, -ids.shape[1] :]
        output = self._model(
            input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **options
        )
        _require_plain(getattr(output, "past_key_values", None), cache)
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    def _join(self, cache: Any, mask: torch.Tensor) -> None:
        if not len(self._mask):
            self._cache, self._mask = cache, mask
            return
        for layer in self._cache.layers:  # before anything is changed: memory may end half-way
            layer.make_room(*mask.shape)
        for layer, other in zip(self._cache.layers, cache.layers, strict=True):
            layer.join(other)
        longest = max(mask.shape[1], self._mask.shape[1])
        both = [pad(each, (longest - each.shape[1], 0)) for each in (self._mask, mask)]
        self._mask = torch.cat(both)


class EncodedRows:
    """An encoder and a decoder. Rows begin together: some decoders count positions from the start
    of the batch, and cannot be told otherwise."""

    joins_midway = False

    def __init__(self, language: Language) -> None:
        self._language, self._model, self._device = language, language.model, language.device
        settings = self._model.generation_config
        starts = (settings.decoder_start_token_id, settings.bos_token_id, language.pad)
        self._start = next(token for token in starts if token is not None)
        self._first: int | None = settings.forced_bos_token_id
        self._cache: Any
        self._forget()

    def begin(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        ids, self._mask = self._language.fill_up(prompts)
        encoder = self._model.get_encoder()
        encoded = encoder(input_ids=ids, attention_mask=self._mask)
        self._encoded = encoded.last_hidden_state
        self._cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        logits = self.step([self._start] * len(prompts))
        if self._first is not None:  # as mBART's, which says the language to write in
            forced = torch.full_like(logits, -torch.inf)
            forced[:, self._first] = 0
            return forced
        return logits

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        output = self._model(
            encoder_outputs=BaseModelOutput(last_hidden_state=self._encoded),
            attention_mask=self._mask,
            decoder_input_ids=torch.tensor(tokens, device=self._device)[:, None],
            past_key_values=self._cache,
            use_cache=True,
        )
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        if not rows:
            self._forget()
            return
        chosen = torch.tensor(rows, device=self._device)
        self._encoded, self._mask = self._encoded[chosen], self._mask[chosen]
        for cache in (self._cache.self_attention_cache, self._cache.cross_attention_cache):
            for layer in cache.layers:
                layer.keys, layer.values = layer.keys[chosen], layer.values[chosen]

    def count_bytes(self) -> int:
        caches = (self._cache.self_attention_cache, self._cache.cross_attention_cache)
        return sum(map(_count_bytes, caches), self._encoded.nbytes)

    def _forget(self) -> None:
        self._cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        self._encoded = torch.zeros(0)
        self._mask = torch.zeros(0, 0, dtype=torch.long)


def open_rows(language: Language) -> Rows:
    return CausalRows(language) if language.task == "causal" else EncodedRows(language)


def _count_bytes(cache: Any) -> int:
    sizes: list[int] = [layer.keys.nbytes + layer.values.nbytes for layer in cache.layers]
    return sum(sizes)


def _new_cache() -> Any:
    return Cache(layer_class_to_replicate=RoomyLayer)


def _require_plain(found: Any, cache: Any) -> None:
    is_plain = found is cache and all(type(layer) is RoomyLayer for layer in cache.layers)
    if not is_plain or not cache.layers:
        raise LoadRefused(
            "This architecture remembers a text otherwise than as the keys and values of each"
            " token (a recurrent model?), which is not served."
        )
