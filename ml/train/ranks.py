"""The processes that share one training. A single one is a world of size 1.

Under torchrun each process has a rank. All of them go through the same steps with the same
weights: every step's samples are dealt out, the gradients added up. Rank 0 alone reads wishes,
evaluates and writes; what it decides is told to the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import distributed as dist
from torch import nn

LONGEST_WAIT = timedelta(days=1)
"""The others wait while rank 0 evaluates; a rank that dies is seen by torchrun, not by time."""


class LostRank(Exception):
    """Another process ended; torchrun ends this one, too, and tells how the other did."""


@dataclass(frozen=True)
class Ranks:
    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def deal(self, rows: np.ndarray) -> np.ndarray:
        """This rank's share of the rows; together the ranks have each row once."""
        return rows[self.rank :: self.size]

    def add_up(self, values: list[float]) -> list[float]:
        """The sum over all ranks of each value."""
        if self.size == 1:
            return values
        summed = torch.tensor(values, dtype=torch.float64)
        with _together():
            dist.all_reduce(summed)
        return [float(value) for value in summed]

    def add_up_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        if self.size == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:  # a rank without a row in a small last step
                parameter.grad = torch.zeros_like(parameter)
            with _together():
                dist.all_reduce(parameter.grad)

    def decide(self, value: Any) -> Any:
        """What rank 0 says, for all."""
        if self.size == 1:
            return value
        told = [value]
        with _together():
            dist.broadcast_object_list(told, src=0)
        return told[0]

    def collect(self, value: Any) -> list[Any]:
        """The value of every rank, in order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with _together():
            dist.all_gather_object(values, value)
        return values


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo and NCCL have no narrower one for a peer that is gone
        raise LostRank(str(error)) from error


def join() -> Ranks:
    """Meet the other processes that torchrun started, if it did."""
    if "WORLD_SIZE" not in os.environ:
        return Ranks()
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=LONGEST_WAIT)
    return Ranks(dist.get_rank(), dist.get_world_size())


def leave(ranks: Ranks) -> None:
    """Go when all are ready to go: torchrun ends the others as soon as one has failed."""
    if ranks.size > 1:
        ranks.collect(None)
