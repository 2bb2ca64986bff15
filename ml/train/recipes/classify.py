"""The recipe `classify`: a language model learns to tell texts apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from ml.config import ClassifyConfig
from ml.train import metrics
from ml.train.prepare import encode_classes
from ml.train.recipes.language import Cut, LanguageTask
from ml.train.recipes.tokens import TokenWriter
from ml.train.steps import balanced_weights, loss_of
from ml.train.task import Check, Evaluation, split

Batch = tuple[dict[str, torch.Tensor], torch.Tensor]


class ClassifyTask(LanguageTask):
    auto_class = AutoModelForSequenceClassification
    adapter_task = "SEQ_CLS"
    settings: ClassifyConfig
    class_weights: torch.Tensor | None = None

    def _read_targets(self) -> np.ndarray:
        if self.records.target is None:
            raise RuntimeError("records for classification have a target")
        targets, self.classes = encode_classes(self.records.target)
        return targets

    def _model_fields(self) -> dict[str, Any]:
        names = [str(name) for name in self.classes]
        return {
            "id2label": dict(enumerate(names)),
            "label2id": {name: number for number, name in enumerate(names)},
            "problem_type": "single_label_classification",
        }

    def _prepare(self) -> None:
        super()._prepare()
        if self.settings.class_weights == "balanced":
            targets = self.targets[self.train_rows]
            self.class_weights = balanced_weights(targets, len(self.classes), self.device)

    def _encode(self, folder: Path, tell: Callable[[str], None]) -> None:
        cut = Cut(self.max_length, "texts")
        with TokenWriter(folder, "inputs") as inputs:
            for part in self.read_rows():
                for tokens in self.tokenize(part.texts, cut):
                    inputs.write(tokens)
        cut.tell(tell)

    def _count_labels(self) -> np.ndarray:
        return np.ones(len(self.records), np.int64)

    def batch(self, rows: np.ndarray) -> Batch:
        return self.pad_inputs(rows), torch.tensor(self.targets[rows], device=self.device)

    def loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, targets = batch
        outputs = self._forward(inputs)
        smoothing = self.settings.label_smoothing
        loss = loss_of("cross_entropy", outputs, targets, self.class_weights, smoothing)
        return loss, (outputs.argmax(dim=1) == targets).sum()

    def _forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        with self.autocast():
            logits: torch.Tensor = self.module(**inputs).logits
        return logits.float()

    def evaluate(self, batch_size: int, check: Check) -> Evaluation:
        if not len(self.validation_rows):
            return Evaluation()
        self.module.eval()
        outputs = []
        with torch.inference_mode():
            for rows in split(self.validation_rows, batch_size):
                check()
                outputs.append(self._forward(self.batch(rows)[0]).cpu())
        logits = torch.cat(outputs)
        truth = self.targets[self.validation_rows]
        weights = None if self.class_weights is None else self.class_weights.cpu()
        loss = loss_of("cross_entropy", logits, torch.as_tensor(truth), weights).item()
        confusion = metrics.confusion_matrix(truth, logits.argmax(dim=1).numpy(), len(self.classes))
        return Evaluation(
            val_loss=loss,
            val_accuracy=metrics.accuracy(confusion),
            extra={"macro_f1": metrics.macro_f1(confusion)},
            events=metrics.confusion_events(confusion, self.classes),
        )

    def preprocess(self) -> dict[str, Any]:
        target = self.records.target_name
        return {**super().preprocess(), "target": target, "classes": self.classes}
