"""The recipe `network`: tables and images; classification or regression."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ml.config import NetworkConfig
from ml.train import metrics, model
from ml.train.checkpoint import Tensors, write_files
from ml.train.export import network_files
from ml.train.prepare import prepare
from ml.train.steps import balanced_weights, choose_precision, choose_threads, classes_of, loss_of
from ml.train.task import Check, Evaluation, Task, no_check, split

EVALUATION_BATCH = 512
Batch = tuple[torch.Tensor, torch.Tensor]


class NetworkTask(Task):
    def __init__(
        self,
        config: NetworkConfig,
        folder: Path,
        device: torch.device,
        warn: Callable[[str], None],
        check: Check = no_check,
    ) -> None:
        self.data = data = prepare(config, folder, check)
        for warning in data.warnings:
            warn(warning)
        self.device, self.precision = device, choose_precision(config.precision, device)
        self.train_rows, self.validation_rows = data.train_rows, data.validation_rows
        self.has_accuracy = data.task == "classification"
        network = model.build(data.network)
        self.threads = choose_threads(network, data.network["input_shape"], config.batch_size)
        self.module = network.to(device)
        self.smoothing = config.label_smoothing
        self.class_weights: torch.Tensor | None = None
        if config.class_weights == "balanced":
            targets = data.targets[data.train_rows]
            self.class_weights = balanced_weights(targets, len(data.preprocess["classes"]), device)

    def describe(self) -> list[str]:
        data = self.data
        return [f"{data.task} with {data.network['architecture']}, loss {data.loss_function}"]

    def weight(self, rows: np.ndarray) -> int:
        return len(rows)

    def batch(self, rows: np.ndarray) -> Batch:
        inputs = model.to_tensor(self.data.preprocess, self.data.inputs.take(rows), self.device)
        return inputs, torch.as_tensor(self.data.targets[rows], device=self.device)

    def loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, targets = batch
        outputs = self._forward(inputs)
        name, weights = self.data.loss_function, self.class_weights
        loss = loss_of(name, outputs, targets, weights, self.smoothing)
        if not self.has_accuracy:
            return loss, torch.zeros((), device=self.device)
        return loss, (classes_of(outputs) == targets).sum()

    def evaluation_batch(self, batch_size: int) -> int:
        return max(EVALUATION_BATCH, batch_size)

    def evaluate(self, batch_size: int, check: Check) -> Evaluation:
        if not len(self.validation_rows):
            return Evaluation()
        outputs, targets = self._validate(batch_size, check)
        weights = self.class_weights.cpu() if self.class_weights is not None else None
        loss = loss_of(self.data.loss_function, outputs, targets, weights).item()
        if not self.has_accuracy:
            return Evaluation(val_loss=loss, extra=self._errors(outputs, targets))
        classes = self.data.preprocess["classes"]
        confusion = metrics.confusion_matrix(
            targets.numpy(), classes_of(outputs).numpy(), len(classes)
        )
        return Evaluation(
            val_loss=loss,
            val_accuracy=metrics.accuracy(confusion),
            extra={"macro_f1": metrics.macro_f1(confusion)},
            events=metrics.confusion_events(confusion, classes),
        )

    def _validate(self, size: int, check: Check) -> Batch:
        """Outputs and targets of every validation row, on the CPU."""
        self.module.eval()
        outputs, targets = [], []
        with torch.inference_mode():
            for rows in split(self.validation_rows, size):
                check()
                inputs, truth = self.batch(rows)
                outputs.append(self._forward(inputs).cpu())
                targets.append(truth.cpu())
        return torch.cat(outputs), torch.cat(targets)

    def _errors(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        mean, std = self.data.preprocess["target_mean"], self.data.preprocess["target_std"]
        truth = targets.numpy().astype(np.float64) * std + mean
        return metrics.regression_metrics(
            truth, outputs[:, 0].numpy().astype(np.float64) * std + mean
        )

    def _forward(self, inputs: torch.Tensor) -> torch.Tensor:
        with self.autocast():
            outputs: torch.Tensor = self.module(inputs)
        return outputs.float()

    def export(self, folder: Path, weights: Tensors) -> None:
        write_files(folder, network_files(weights, self.data.network, self.data.preprocess))
