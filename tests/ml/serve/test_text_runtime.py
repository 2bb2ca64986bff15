"""Classifiers and encoders of texts: a text's answer is the same alone and among longer ones."""

import json
from pathlib import Path

import numpy as np
import pytest

from ml.serve.errors import ContextLengthExceeded
from ml.serve.runtimes import Options
from ml.serve.text_runtime import CALL_WEIGHTS, TextRuntime, group
from ml.serve.warmup import warm_up
from tests.ml.train.language import make_base

TEXTS = ["calm", "loud add 1 2", "calm calm calm calm"]


def inputs(*texts: str) -> dict[str, np.ndarray]:
    return {"text": np.array(texts, dtype=object)}


def test_a_classifier_tells_texts_apart(tmp_path: Path) -> None:
    runtime = TextRuntime(make_base(tmp_path / "m", "classify"), Options())
    assert warm_up(runtime)
    assert runtime.signature.classes == ("LABEL_0", "LABEL_1")
    names = ("label", "probabilities")
    together = runtime.predict(inputs(*TEXTS), names)
    alone = [runtime.predict(inputs(text), names) for text in TEXTS]
    np.testing.assert_allclose(
        together["probabilities"], [each["probabilities"][0] for each in alone], atol=1e-6
    )
    np.testing.assert_allclose(together["probabilities"].sum(axis=1), 1)
    assert together["label"].tolist() == [each["label"][0] for each in alone]


def test_an_encoder_gives_the_mean_of_the_tokens_of_a_text(tmp_path: Path) -> None:
    folder = make_base(tmp_path / "m", "classify")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["RobertaModel"]}))
    runtime = TextRuntime(folder, Options())
    assert warm_up(runtime)
    assert runtime.signature.outputs[0].shape == (None, 16)
    names = ("embedding", "tokens")
    together = runtime.predict(inputs(*TEXTS), names)
    alone = [runtime.predict(inputs(text), names) for text in TEXTS]
    np.testing.assert_allclose(
        together["embedding"], [each["embedding"][0] for each in alone], atol=1e-5
    )
    assert together["tokens"].tolist() == [each["tokens"][0] for each in alone]


def test_a_text_is_never_cut(tmp_path: Path) -> None:
    runtime = TextRuntime(make_base(tmp_path / "m", "classify"), Options())
    with pytest.raises(ContextLengthExceeded):
        runtime.predict(inputs("calm " * 100), ("label",))


def test_texts_of_about_the_same_length_are_computed_together() -> None:
    assert list(group([10, 50, 12, 48, 9], 20)) == [[3, 1], [4, 0, 2]]
    assert list(group([10, 50, 12, 48, 9], 1000)) == [[4, 0, 2, 3, 1]]
    assert list(group([3, 3], 1)) == [[0, 1]]


def test_answers_come_in_the_order_of_the_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = TextRuntime(make_base(tmp_path / "m", "classify"), Options())
    texts = inputs(*(text for text in TEXTS for _ in range(2)))
    together = runtime.predict(texts, ("probabilities", "tokens"))
    monkeypatch.setattr("ml.serve.text_runtime.READ_TOKENS", 0)
    monkeypatch.setitem(CALL_WEIGHTS, "cpu", 0)
    apart = runtime.predict(texts, ("probabilities", "tokens"))
    np.testing.assert_allclose(together["probabilities"], apart["probabilities"], atol=1e-6)
    assert together["tokens"].tolist() == apart["tokens"].tolist()
