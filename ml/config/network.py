"""The recipe for small networks on tables and images."""

from __future__ import annotations

from dataclasses import dataclass

from ml.config.common import (
    CLASS_WEIGHTS,
    CLASS_WEIGHTS_HELP,
    SMOOTHING,
    SMOOTHING_HELP,
    GradientConfig,
    column,
    named_recipe,
)
from ml.fields import FieldError, conflict, default_of, setting
from ml.rules import Choice, Integers, Number

CLASSIFICATION_LOSSES = ("cross_entropy", "bce")
REGRESSION_LOSSES = ("mse", "mae", "huber")


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(GradientConfig):
    """A small network on a table or on images."""

    recipe: str = named_recipe("network")
    architecture: str = setting(
        Choice(choices=("auto", "mlp", "cnn")),
        "layers of the network; auto: convolutions for images, dense layers for tables",
        "auto",
    )
    hidden_sizes: tuple[int, ...] = setting(
        Integers(low=1, high=8192, most=16), "width of each dense layer", (64, 64)
    )
    channels: tuple[int, ...] = setting(
        Integers(low=1, high=1024, most=8), "channels of each convolution (cnn only)", (32, 64)
    )
    dropout: float = setting(
        Number(low=0, high=0.9), "share of activations dropped while training", 0.1
    )
    task: str = setting(
        Choice(choices=("auto", "classification", "regression")),
        "what the target is; auto: decided by its values",
        "auto",
    )
    target: str | None = column("column to learn; empty: the dataset's own target")
    loss_function: str = setting(
        Choice(choices=("auto", "cross_entropy", "bce", "mse", "mae", "huber")),
        "what is minimised; auto: cross_entropy for classes, mse for numbers; bce: two classes",
        "auto",
    )
    class_weights: str = setting(CLASS_WEIGHTS, CLASS_WEIGHTS_HELP, "none")
    label_smoothing: float = setting(SMOOTHING, SMOOTHING_HELP, 0.0)

    def conflicts(self) -> list[FieldError]:
        found = super().conflicts()
        losses = {"classification": REGRESSION_LOSSES, "regression": CLASSIFICATION_LOSSES}
        if self.loss_function in losses.get(self.task, ()):
            sentence = f"loss_function {self.loss_function} does not fit task {self.task}"
            found.append(conflict("loss_function", sentence, self.loss_function))
        if self.architecture == "mlp" and self.channels != default_of(NetworkConfig, "channels"):
            sentence = "channels has no effect on architecture mlp; remove it or choose cnn"
            found.append(conflict("channels", sentence, list(self.channels)))
        is_regression = self.task == "regression" or self.loss_function in REGRESSION_LOSSES
        if self.class_weights != "none" and is_regression:
            sentence = "class_weights has no effect on a regression; remove it"
            found.append(conflict("class_weights", sentence, self.class_weights))
        if self.label_smoothing and (is_regression or self.loss_function == "bce"):
            sentence = "label_smoothing has an effect on cross_entropy only; remove it"
            found.append(conflict("label_smoothing", sentence, self.label_smoothing))
        return found
