"""Training configurations: every recipe with its fields, their ranges and their defaults.

Standard library only, so that Django may import it. Nothing here looks at a dataset.
"""

from __future__ import annotations

from typing import Any

from ml.config.common import DatasetReference, GradientConfig, ModelReference, TrainingConfig
from ml.config.features import MISFITS, FeaturesConfig
from ml.config.language import CausalConfig, ClassifyConfig, Text2TextConfig, TextConfig
from ml.config.network import CLASSIFICATION_LOSSES, REGRESSION_LOSSES, NetworkConfig
from ml.fields import ConfigError, FieldError, build, describe_fields
from ml.rules import show

__all__ = [
    "CLASSIFICATION_LOSSES",
    "DEFAULT_RECIPE",
    "MISFITS",
    "RECIPES",
    "REGRESSION_LOSSES",
    "CausalConfig",
    "ClassifyConfig",
    "DatasetReference",
    "FeaturesConfig",
    "GradientConfig",
    "ModelReference",
    "NetworkConfig",
    "Text2TextConfig",
    "TextConfig",
    "TrainingConfig",
    "describe",
    "parse_config",
]

DEFAULT_RECIPE = "network"
RECIPES: dict[str, type[TrainingConfig]] = {
    "network": NetworkConfig,
    "text2text": Text2TextConfig,
    "causal": CausalConfig,
    "classify": ClassifyConfig,
    "features": FeaturesConfig,
}


def parse_config(data: dict[str, Any]) -> TrainingConfig:
    """A complete configuration, or ConfigError with everything that is wrong at once."""
    if not isinstance(data, dict):
        sentence = f"a training configuration must be an object, got {show(data)}"
        raise ConfigError([FieldError(field="", message=sentence, code="invalid_type")])
    recipe = data.get("recipe", DEFAULT_RECIPE)
    if not isinstance(recipe, str) or recipe not in RECIPES:
        sentence = f"recipe must be one of {', '.join(RECIPES)}; got {show(recipe)}"
        raise ConfigError(
            [FieldError(field="recipe", message=sentence, code="invalid_choice", value=recipe)]
        )
    config = build(RECIPES[recipe], data)
    if found := config.conflicts():
        raise ConfigError(found)
    return config


def describe() -> dict[str, Any]:
    """Every recipe with its fields, in order: what a form or GET /config shows."""
    return {
        name: {"help": (kind.__doc__ or "").strip(), "fields": describe_fields(kind)}
        for name, kind in RECIPES.items()
    }
