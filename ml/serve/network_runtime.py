"""Networks that were trained here: rows of a table or images in, answers out, by plain PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ml.serve.answers import as_classes, describe_answers, from_shares
from ml.serve.errors import LoadRefused
from ml.serve.runtimes import Options
from ml.serve.signature import Signature, TensorSpec
from ml.serve.tensors import Inputs
from ml.train import model

IMAGE = "image"


class NetworkRuntime:
    """Inputs are the columns by name, or `image` (N, H, W[, C]) as the dataset had them.

    Answers equal those of `predict` in the folder's model.py.
    """

    def __init__(self, folder: Path, options: Options) -> None:
        torch.set_num_threads(options.threads)
        try:
            network, self._preprocess = model.load(folder)
            is_regression = self._preprocess["task"] == "regression"
            self._classes = None if is_regression else self._preprocess["classes"]
            inputs = tuple(_inputs(self._preprocess))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise LoadRefused(f"The network cannot be built from its files: {error}") from error
        self._device = torch.device(options.device)
        self._network = network.to(self._device)
        self.signature = Signature(
            inputs=inputs,
            outputs=describe_answers(self._classes),
            classes=as_classes(self._classes),
        )

    def predict(self, inputs: Inputs, outputs: Sequence[str]) -> Inputs:
        answers = self._decode(self._compute(self._encode(inputs)))
        return {name: answers[name] for name in outputs}

    def close(self) -> None:
        del self._network

    def _encode(self, inputs: Inputs) -> np.ndarray:
        if self._preprocess["kind"] == "image":
            return model.encode_images(self._preprocess, inputs[IMAGE])
        return model.encode_table(self._preprocess, inputs)

    def _compute(self, encoded: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            tensor = model.to_tensor(self._preprocess, encoded, self._device)
            raw: np.ndarray = self._network(tensor).cpu().numpy()
        return raw

    def _decode(self, raw: np.ndarray) -> Inputs:
        if self._classes is None:
            return {"value": np.array(model.decode(self._preprocess, raw), np.float64)}
        return from_shares(self._classes, model.probabilities(raw))


def _inputs(preprocess: Mapping[str, Any]) -> list[TensorSpec]:
    if preprocess["kind"] == "image":
        height, width, channels = preprocess["image_shape"]
        shape = (None, height, width, *((channels,) if channels > 1 else ()))
        return [TensorSpec(name=IMAGE, datatype="FP32", shape=shape)]
    return [_column(preprocess, name) for name in preprocess["columns"]]


def _column(preprocess: Mapping[str, Any], name: str) -> TensorSpec:
    is_category = preprocess["encodings"][name]["kind"] == "category"
    datatype = "BYTES" if is_category else "FP64"
    return TensorSpec(name=name, datatype=datatype, shape=(None,), is_column=True)
