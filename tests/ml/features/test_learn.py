"""The exported graph answers as scikit-learn's model does, for every algorithm."""

from typing import Any

import numpy as np
import pytest

from ml.config import FeaturesConfig, parse_config
from ml.features import learn, model
from ml.features.evaluate import answer
from ml.features.learn import NoFeatures, choose_vocabulary, fit_table, fit_texts

ROWS = 60
RANDOM = np.random.default_rng(0)
COLUMNS = {
    "length": RANDOM.normal(size=ROWS),
    "colour": np.array(["red", "blue", None] * (ROWS // 3), dtype=object),
    "count": np.arange(ROWS),
}
COLUMNS["length"][3] = np.nan
CATEGORIES = {"colour": ["blue", "red"]}


def config(**fields: Any) -> FeaturesConfig:
    found = parse_config({"recipe": "features", "dataset": "d", "trees": 5, **fields})
    assert isinstance(found, FeaturesConfig)
    return found


@pytest.fixture
def fitted_models(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The scikit-learn models that are turned into ONNX, to compare with."""
    models: list[Any] = []
    original = learn.to_onnx

    def spy(fitted: Any, *arguments: Any) -> bytes:
        models.append(fitted)
        return original(fitted, *arguments)

    monkeypatch.setattr(learn, "to_onnx", spy)
    return models


def inputs() -> np.ndarray:
    kinds = {"length": "number", "colour": "category", "count": "number"}
    return np.concatenate(
        [model.as_input(name, COLUMNS[name], kind).astype(object) for name, kind in kinds.items()],
        axis=1,
    )


@pytest.mark.parametrize("algorithm", ["logistic_regression", "random_forest", "gradient_boosting"])
@pytest.mark.parametrize("class_count", [2, 3])
def test_classes_of_a_table(fitted_models: list[Any], algorithm: str, class_count: int) -> None:
    targets = np.arange(ROWS) % class_count
    classes = list("abc")[:class_count]
    fitted = fit_table(config(algorithm=algorithm), COLUMNS, CATEGORIES, targets, classes)
    expected = fitted_models[0].predict_proba(inputs())
    assert answer(fitted, COLUMNS) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("algorithm", ["ridge", "random_forest", "gradient_boosting"])
def test_numbers_of_a_table(fitted_models: list[Any], algorithm: str) -> None:
    targets = 3.0 * np.arange(ROWS) - 20
    fitted = fit_table(config(algorithm=algorithm), COLUMNS, CATEGORIES, targets, None)
    expected = fitted_models[0].predict(inputs())
    assert answer(fitted, COLUMNS) == pytest.approx(expected, rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("kind", ["text", "code"])
def test_classes_of_texts(kind: str) -> None:
    texts = [f"eval(x{n})" if n % 2 else f"print(x{n})" for n in range(40)]
    fitted = fit_texts(config(), kind, "text", texts, np.arange(40) % 2, ["safe", "not"])
    fresh = {"text": np.array(["eval(y)", "print(y)"], dtype=object)}
    assert answer(fitted, fresh).argmax(axis=1).tolist() == [1, 0]


def test_an_unknown_category_is_no_mistake() -> None:
    fitted = fit_table(config(), COLUMNS, CATEGORIES, np.arange(ROWS) % 2, ["a", "b"])
    strange = {name: values[:1] for name, values in COLUMNS.items()} | {"colour": ["green"]}
    assert answer(fitted, strange).sum() == pytest.approx(1)  # type: ignore[arg-type]


def test_the_vocabulary_is_what_most_documents_have() -> None:
    documents = [{"a", "b"}, {"a", "b"}, {"a", "c"}, {"a"}]
    names, weights = choose_vocabulary(documents, most=2, fewest=2)
    assert names == ["a", "b"]
    assert weights == pytest.approx([1.0, np.log(5 / 3) + 1])


def test_a_vocabulary_of_nothing_is_refused() -> None:
    with pytest.raises(NoFeatures, match="min_document_frequency"):
        choose_vocabulary([{"a"}, {"b"}], most=10, fewest=2)
