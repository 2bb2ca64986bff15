"""Chooses the next token of each row: the likeliest, or one drawn by its own random numbers.

A row's numbers depend on its seed alone, never on who is written at the same time.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Sampling:
    temperature: float = 1.0
    """0: always the likeliest."""
    top_p: float = 1.0
    """The fewest tokens that have this share of the probability."""
    top_k: int = 0
    """So many of the likeliest; 0: all."""


class Sampler:
    """Of one row."""

    def __init__(self, sampling: Sampling, seed: int | None, device: torch.device) -> None:
        self._sampling = sampling
        self._random: torch.Generator | None = None
        if sampling.temperature > 0:
            chosen = int.from_bytes(os.urandom(7)) if seed is None else seed
            self._random = torch.Generator(device).manual_seed(chosen)

    def choose(self, logits: torch.Tensor, best: int) -> int:
        """`logits`: (vocabulary), float32; `best`: the place of the highest."""
        if self._random is None:
            return best
        shares, tokens = self._shares(logits)
        place = torch.multinomial(shares, 1, generator=self._random)
        return int(tokens[place] if tokens is not None else place)

    def _shares(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Probabilities, and whose they are; None: of the tokens in their order."""
        tokens = None
        wanted = self._sampling
        logits = logits / wanted.temperature
        if 0 < wanted.top_k < len(logits):
            logits, tokens = logits.topk(wanted.top_k)
        shares = logits.softmax(dim=0)
        if wanted.top_p < 1:
            shares, order = shares.sort(descending=True, stable=True)
            before = shares.cumsum(dim=0) - shares
            shares = torch.where(before < wanted.top_p, shares, 0.0)
            tokens = order if tokens is None else tokens[order]
        return shares, tokens
