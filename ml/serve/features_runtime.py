"""Classical models that were trained here: rows of a table, texts or code in, answers out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ml.features import model
from ml.serve.answers import as_classes, describe_answers, from_shares
from ml.serve.errors import LoadRefused
from ml.serve.runtimes import Options
from ml.serve.signature import Array, Signature, TensorSpec
from ml.serve.tensors import Inputs


class FeaturesRuntime:
    """Inputs are the columns by name. Answers equal those of `predict` in the folder's model.py."""

    def __init__(self, folder: Path, options: Options) -> None:
        if options.device != "cpu":
            raise LoadRefused("Classical models run on the CPU; load it with device cpu.")
        try:
            self._session, self._preprocess = model.load(folder)
            self._kinds = dict(self._preprocess["columns"])
            classes = self._preprocess["classes"]
            outputs = describe_answers(classes)
        except Exception as error:  # onnxruntime's errors have no common base but this
            raise LoadRefused(f"The model cannot be read from its files: {error}") from error
        self.signature = Signature(
            inputs=tuple(map(self._column, self._kinds)),
            outputs=outputs,
            classes=as_classes(classes),
        )

    def predict(self, inputs: Inputs, outputs: Sequence[str]) -> Inputs:
        raw = self._session.run(None, self._encode(inputs))
        classes = self._preprocess["classes"]
        if classes is None:
            answers = {"value": np.ravel(raw[0]).astype(np.float64)}
        else:
            answers = from_shares(classes, raw[1].astype(np.float64))
        return {name: answers[name] for name in outputs}

    def close(self) -> None:
        del self._session

    def _column(self, name: str) -> TensorSpec:
        datatype = "FP64" if self._kinds[name] == "number" else "BYTES"
        return TensorSpec(name=name, datatype=datatype, shape=(None,), is_column=True)

    def _encode(self, inputs: Inputs) -> dict[str, Array]:
        if self._preprocess["kind"] == "table":
            return {name: model.as_input(name, inputs[name], self._kinds[name]) for name in inputs}
        (texts,) = inputs.values()
        words = ["" if text is None else str(text) for text in texts]
        return {"features": model.encode_texts(self._preprocess, words)}
