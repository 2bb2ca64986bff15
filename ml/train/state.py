"""Everything that a step changes, and its way into a checkpoint and back."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ml.train.checkpoint import (
    Checkpoint,
    Tensors,
    copy_tensors,
    optimizer_tensors,
    random_state,
    restore_optimizer,
    restore_random_state,
)
from ml.train.ranks import Ranks


@dataclass
class Progress:
    """How far the run is; all JSON, and part of every checkpoint."""

    micro_batch: int
    """Samples that one process takes at once; it shrinks when memory runs out."""
    saves_memory: bool = False
    epoch: int = 0
    """Finished epochs."""
    step: int = 0
    """Optimizer steps over all epochs."""
    step_in_epoch: int = 0
    loss_sum: float = 0.0
    correct: float = 0
    seen: int = 0
    """Samples or tokens, whatever the loss is a mean of."""
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int | None = None
    best_step: int | None = None
    best_loss: float | None = None
    epochs_without_gain: int = 0
    elapsed_seconds: float = 0.0
    epoch_seconds: float = 0.0


@dataclass
class State:
    module: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    device: torch.device
    progress: Progress

    def snapshot(self, ranks: Ranks) -> Checkpoint:
        """Called by every rank at the same step."""
        return Checkpoint(
            model=trained_tensors(self.module),
            optimizer=copy_tensors(optimizer_tensors(self.optimizer)),
            state={
                **dataclasses.asdict(self.progress),
                "random": ranks.collect(random_state(self.device)),
                "scaler": self.scaler.state_dict(),
            },
        )

    def restore(self, checkpoint: Checkpoint, ranks: Ranks) -> None:
        """The world may have grown since; a new rank keeps the generators of its own seed."""
        state = dict(checkpoint.state)
        drawn = state.pop("random")
        if ranks.rank < len(drawn):
            restore_random_state(drawn[ranks.rank], self.device)
        self.scaler.load_state_dict(state.pop("scaler"))
        load_trained(self.module, checkpoint.model)
        restore_optimizer(self.optimizer, checkpoint.optimizer)
        self.progress = Progress(**state)


def trained_tensors(module: nn.Module) -> Tensors:
    """What training changes, on the CPU, each tensor under one name.

    Weights under several names (tied embeddings) are kept once, as safetensors demands; what is
    frozen under LoRA adapters comes from the base model again.
    """
    return copy_tensors(_trained(module))


def load_trained(module: nn.Module, tensors: Tensors) -> None:
    """Put back what trained_tensors() gave; RuntimeError for a network of another shape."""
    if other := set(_trained(module)) ^ set(tensors):
        raise RuntimeError(f"the checkpoint is of another network: {', '.join(sorted(other)[:5])}")
    module.load_state_dict(tensors, strict=False)


def _trained(module: nn.Module) -> Tensors:
    kept: dict[int, tuple[str, torch.Tensor]] = {}
    for name, value in module.state_dict(keep_vars=True).items():
        if value.requires_grad or not isinstance(value, nn.Parameter):
            kept.setdefault(id(value), (name, value))
    return dict(kept.values())
