"""The recipe for classical models."""

from __future__ import annotations

from dataclasses import dataclass

from ml.config.common import (
    CLASS_WEIGHTS,
    CLASS_WEIGHTS_HELP,
    TrainingConfig,
    column,
    named_recipe,
    whole,
)
from ml.fields import FieldError, conflict, setting
from ml.rules import Choice, Number

# Algorithms that cannot do a task.
MISFITS = {"regression": ("logistic_regression",), "classification": ("ridge",)}
CLASSIFIERS = ("logistic_regression", "random_forest", "gradient_boosting")


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig(TrainingConfig):
    """A classical model (scikit-learn) on a table, on texts or on code; kept as ONNX."""

    recipe: str = named_recipe("features")
    epochs: int = whole(1, 1, "it learns in one go", 1)
    algorithm: str = setting(
        Choice(choices=("auto", *CLASSIFIERS, "ridge")),
        "auto: logistic_regression for classes, ridge for numbers",
        "auto",
    )
    input: str = setting(
        Choice(choices=("auto", "table", "text", "code")),
        "what a sample is; code: Python, by words and syntax tree; auto: code or text where the "
        "dataset has a column of that name, else a table",
        "auto",
    )
    text_column: str | None = column("column with the text or code; empty: found by its name")
    target: str | None = column("column to learn; empty: the dataset's own target")
    task: str = setting(
        Choice(choices=("auto", "classification", "regression")),
        "what the target is; auto: decided by its values",
        "auto",
    )
    regularization: float = setting(
        Number(low=0, high=1e6, above_low=True),
        "pull of the weights towards zero (logistic_regression and ridge)",
        0.1,
    )
    trees: int = whole(1, 10_000, "trees (random_forest and gradient_boosting)", 200)
    max_depth: int | None = whole(1, 100, "depth of each tree; empty: the algorithm's own", None)
    vocabulary_size: int = whole(1, 1_000_000, "features kept of text or code at most", 20_000)
    min_document_frequency: int = whole(1, 1_000_000, "texts that must have a feature", 2)
    class_weights: str = setting(CLASS_WEIGHTS, CLASS_WEIGHTS_HELP, "none")

    def conflicts(self) -> list[FieldError]:
        found = super().conflicts()
        if self.algorithm in MISFITS.get(self.task, ()):
            sentence = f"algorithm {self.algorithm} does not fit task {self.task}"
            found.append(conflict("algorithm", sentence, self.algorithm))
        if self.text_column is not None and self.input == "table":
            sentence = "text_column has no effect on input table; remove it"
            found.append(conflict("text_column", sentence, self.text_column))
        return found
