"""Fits scikit-learn's classical models to tables, text and code, and turns them into ONNX."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml.config import FeaturesConfig
from ml.features.model import as_input, encode_texts, features_of

OPSET = 17
"""Of the exported graphs: old enough for every ONNX runtime since 2022."""
MOST_ITERATIONS = 2_000
FEATURES = "features"
TREES = ("random_forest", "gradient_boosting")
PART = 1_000
"""Texts encoded at once: the whole matrix without its zeros would be many gigabytes."""


class NoFeatures(ValueError):
    """The texts have nothing in common to learn from."""


@dataclass(frozen=True)
class Fitted:
    preprocess: dict[str, Any]
    """What ml.features.model.encode() takes; becomes the exported preprocess.json."""
    onnx: bytes

    def signature(self) -> dict[str, Any]:
        """What a row must have and what is answered, for whoever serves the model."""
        classes = self.preprocess["classes"]
        answer = {"type": "number"} if classes is None else {"type": "class", "classes": classes}
        types = {"number": "number", "category": "string", "text": "string", "code": "string"}
        inputs = [
            {"name": name, "type": types[kind]} for name, kind in self.preprocess["columns"].items()
        ]
        return {"inputs": inputs, "outputs": [answer]}


def fit_table(
    config: FeaturesConfig,
    columns: dict[str, np.ndarray],
    categories: dict[str, list[str]],
    targets: np.ndarray,
    classes: list[Any] | None,
) -> Fitted:
    """Learn from columns of numbers and of text; `categories` names the texts of the latter.

    Empty numbers become the mean of their column, unknown categories zeros.
    """
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    kinds = {name: "category" if name in categories else "number" for name in columns}
    inputs = np.concatenate(
        [as_input(name, columns[name], kinds[name]).astype(object) for name in columns], axis=1
    )
    places = {
        kind: [i for i, name in enumerate(kinds) if kinds[name] == kind] for kind in kinds.values()
    }
    # Trees take numbers as they are: scaled, a value on a threshold may fall to either side of it.
    is_tree = choose_algorithm(config, classes is not None) in TREES
    numbers = SimpleImputer() if is_tree else make_pipeline(SimpleImputer(), StandardScaler())
    steps: list[tuple[str, Any, list[int]]] = []
    if "number" in places:
        steps.append(("numbers", numbers, places["number"]))
    if "category" in places:
        known = [categories[name] for name in kinds if name in categories]
        encoder = OneHotEncoder(categories=known, handle_unknown="ignore", sparse_output=False)
        steps.append(("categories", encoder, places["category"]))
    model = make_pipeline(ColumnTransformer(steps), make_estimator(config, classes is not None))
    model.fit(inputs, targets)
    types = {"number": FloatTensorType, "category": StringTensorType}
    signature = [(name, types[kind]([None, 1])) for name, kind in kinds.items()]
    preprocess = {"kind": "table", "columns": kinds, "classes": classes}
    return Fitted(preprocess, to_onnx(model, signature, classes))


def fit_texts(
    config: FeaturesConfig,
    kind: str,
    column: str,
    texts: Sequence[str],
    targets: np.ndarray,
    classes: list[Any] | None,
) -> Fitted:
    """Learn from the features of `kind` (text or code) that enough of the texts have."""
    from scipy.sparse import csr_matrix, vstack
    from skl2onnx.common.data_types import FloatTensorType

    vocabulary, weights = choose_vocabulary(
        [features_of(kind, text) for text in texts],
        config.vocabulary_size,
        config.min_document_frequency,
    )
    preprocess = {
        "kind": kind,
        "columns": {column: kind},
        "classes": classes,
        "vocabulary": vocabulary,
        "weights": weights,
    }
    parts = [texts[start : start + PART] for start in range(0, len(texts), PART)]
    matrix = vstack([csr_matrix(encode_texts(preprocess, part)) for part in parts], format="csr")
    model = make_estimator(config, classes is not None).fit(matrix, targets)
    signature = [(FEATURES, FloatTensorType([None, len(vocabulary)]))]
    return Fitted(preprocess, to_onnx(model, signature, classes))


def choose_vocabulary(
    documents: Sequence[set[str]], most: int, fewest: int
) -> tuple[list[str], list[float]]:
    """The features that most documents have, and their weights: log((1 + N) / (1 + n)) + 1.

    NoFeatures where none is frequent enough.
    """
    counts = Counter(feature for document in documents for feature in document)
    frequent = [(-count, name) for name, count in counts.items() if count >= fewest]
    if not frequent:
        raise NoFeatures(
            f"No feature stands in {fewest} texts or more: choose a smaller "
            "min_document_frequency, or bring more texts."
        )
    names = sorted(name for _, name in sorted(frequent)[:most])
    total = 1 + len(documents)
    return names, [float(np.log(total / (1 + counts[name])) + 1) for name in names]


def make_estimator(config: FeaturesConfig, is_classification: bool) -> Any:
    from sklearn import ensemble, linear_model

    algorithm = choose_algorithm(config, is_classification)
    balance = "balanced" if config.class_weights == "balanced" else None
    seed, trees, depth = config.seed, config.trees, config.max_depth
    if algorithm == "logistic_regression":
        return linear_model.LogisticRegression(
            C=1 / config.regularization,
            class_weight=balance,
            max_iter=MOST_ITERATIONS,
            random_state=seed,
        )
    if algorithm == "ridge":
        return linear_model.Ridge(alpha=config.regularization, random_state=seed)
    if algorithm == "random_forest":
        if is_classification:
            return ensemble.RandomForestClassifier(
                trees, max_depth=depth, class_weight=balance, random_state=seed
            )
        return ensemble.RandomForestRegressor(trees, max_depth=depth, random_state=seed)
    kind = "GradientBoostingClassifier" if is_classification else "GradientBoostingRegressor"
    return getattr(ensemble, kind)(n_estimators=trees, max_depth=depth or 3, random_state=seed)


def choose_algorithm(config: FeaturesConfig, is_classification: bool) -> str:
    if config.algorithm != "auto":
        return config.algorithm
    return "logistic_regression" if is_classification else "ridge"


def to_onnx(model: Any, signature: list[tuple[str, Any]], classes: list[Any] | None) -> bytes:
    """The fitted model as an ONNX graph: (labels, probabilities) for classes, else numbers."""
    import skl2onnx

    options = {} if classes is None else {"zipmap": False}
    graph = skl2onnx.to_onnx(model, initial_types=signature, options=options, target_opset=OPSET)
    written: bytes = graph.SerializeToString()
    return written
