"""The recipes. Each is imported when it is asked for: transformers alone takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ml.config import (
    CausalConfig,
    ClassifyConfig,
    GradientConfig,
    NetworkConfig,
    Text2TextConfig,
)
from ml.train.task import Check, Task, no_check


def make_task(
    config: GradientConfig,
    folder: Path,
    device: torch.device,
    warn: Callable[[str], None],
    check: Check = no_check,
) -> Task:
    """Open data and network of a run in `folder`; large data takes a while, between whose parts
    `check` is called. Raises TrainingFailed."""
    if isinstance(config, Text2TextConfig):
        from ml.train.recipes.text2text import Text2TextTask

        return Text2TextTask(config, folder, device, warn, check)
    if isinstance(config, CausalConfig):
        from ml.train.recipes.causal import CausalTask

        return CausalTask(config, folder, device, warn, check)
    if isinstance(config, ClassifyConfig):
        from ml.train.recipes.classify import ClassifyTask

        return ClassifyTask(config, folder, device, warn, check)
    if isinstance(config, NetworkConfig):
        from ml.train.recipes.network import NetworkTask

        return NetworkTask(config, folder, device, warn, check)
    raise TypeError(f"recipe {config.recipe} has no task")
