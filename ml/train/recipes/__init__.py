"""The recipes. Each is imported when it is asked for: transformers alone takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ml.config import GradientConfig, NetworkConfig
from ml.train.task import Task


def make_task(
    config: GradientConfig, folder: Path, device: torch.device, warn: Callable[[str], None]
) -> Task:
    """Open data and network of a run in `folder`. Raises TrainingFailed."""
    if isinstance(config, NetworkConfig):
        from ml.train.recipes.network import NetworkTask

        return NetworkTask(config, folder, device, warn)
    raise TypeError(f"recipe {config.recipe} has no task")
