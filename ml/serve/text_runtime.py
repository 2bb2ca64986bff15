"""Language models that tell texts apart, or turn each into a vector: texts in, numbers out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ml.serve.answers import as_classes, describe_answers, from_shares
from ml.serve.errors import LoadRefused
from ml.serve.language import Language
from ml.serve.runtimes import Options
from ml.serve.signature import Array, Signature, TensorSpec
from ml.serve.tensors import Inputs

INPUT = "text"
CALL_WEIGHTS = {"cpu": 1e8, "cuda": 1e11}
"""What a device multiplies in the two milliseconds that Python takes for a call, two a weight.
Measured on two cores; reckoned for a GPU, from its data sheet."""
READ_TOKENS = 32
"""To read the weights takes as long as to compute so many tokens (22 to 38 were measured)."""


class TextRuntime:
    """Input `text` (N). A classifier answers as ml.serve.answers has it; an encoder with
    `embedding` (N, width), the mean of its tokens' vectors. Both tell the `tokens` of each text.
    """

    def __init__(self, folder: Path, options: Options) -> None:
        self._language = Language(folder, options)
        torch.set_num_threads(self._language.threads)
        counts = TensorSpec(name="tokens", datatype="INT64", shape=(None,))
        self._classes = self._find_classes()
        answers = self._describe()
        text = TensorSpec(name=INPUT, datatype="BYTES", shape=(None,))
        self.signature = Signature(
            inputs=(text,), outputs=(*answers, counts), classes=as_classes(self._classes)
        )

    def predict(self, inputs: Inputs, outputs: Sequence[str]) -> Inputs:
        tokens = self._language.encode([str(text) for text in inputs[INPUT]])
        for each in tokens:
            self._language.check_length(each, self._language.longest, INPUT)
        counts = {"tokens": np.array([len(each) for each in tokens])}
        answers = self._compute(tokens) | counts
        return {name: answers[name] for name in outputs}

    def close(self) -> None:
        del self._language

    def _describe(self) -> tuple[TensorSpec, ...]:
        if self._classes is not None:
            return describe_answers(self._classes)
        width = self._language.model.config.hidden_size
        return (TensorSpec(name="embedding", datatype="FP32", shape=(None, width)),)

    def _find_classes(self) -> list[Any] | None:
        config = self._language.model.config
        if self._language.task != "classify":
            return None
        if config.problem_type not in (None, "single_label_classification"):
            raise LoadRefused(
                f"It answers a problem of the type {config.problem_type}; served are models that"
                " choose one of several classes."
            )
        # As the dataset had them; id2label of config.json holds strings only.
        names = [config.id2label[place] for place in range(config.num_labels)]
        return self._language.preprocess.get("classes") or names

    def _compute(self, tokens: list[list[int]]) -> Inputs:
        language = self._language
        answers: dict[int, Array] = {}
        call = READ_TOKENS + CALL_WEIGHTS[language.device.type] / language.parameters
        for rows in group([len(each) for each in tokens], call):
            computed = self._compute_group([tokens[row] for row in rows])
            answers |= zip(rows, computed, strict=True)
        found = np.stack([answers[row] for row in range(len(tokens))])
        if self._classes is not None:
            return from_shares(self._classes, found)
        return {"embedding": found}

    @torch.inference_mode()
    def _compute_group(self, tokens: list[list[int]]) -> Array:
        """Shares of the classes, or vectors: (rows, width)."""
        language = self._language
        ids, mask = language.fill_up(tokens)
        output = language.model(input_ids=ids, attention_mask=mask)
        if self._classes is not None:
            made = output.logits.double().softmax(dim=1)
        else:
            made = _mean(output.last_hidden_state, mask).float()
        return np.asarray(made.cpu().numpy())


def group(lengths: Sequence[int], call: float) -> Iterator[list[int]]:
    """Places of texts that are computed together, in the groups that cost least: what fills up the
    shorter ones is computed like everything else, and a call costs as much as `call` tokens."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    costs, begins = [0.0], [0]
    for end in range(1, len(order) + 1):
        longest = lengths[order[end - 1]]
        cost, begin = min(
            (costs[begin] + (end - begin) * longest + call, begin) for begin in range(end)
        )
        costs.append(cost)
        begins.append(begin)
    end = len(order)
    while end:
        yield order[begins[end] : end]
        end = begins[end]


def _mean(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(rows, tokens, width) to (rows, width); what only fills up counts for nothing."""
    weights = mask[..., None].to(states.dtype)
    mean: torch.Tensor = (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
    return mean
