"""The training loop of the recipe `network`, readable from top to bottom.

It knows the run directory and nothing of who started it. A run that is resumed goes
through exactly the steps an undisturbed one would: everything a step depends on is the
configuration, the step's number, or in the checkpoint.
"""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ml.config import NetworkConfig
from ml.rundir import Journal, RunDir
from ml.train import metrics, model
from ml.train.checkpoint import (
    Checkpoint,
    checkpoint_path,
    copy_tensors,
    load_checkpoint,
    load_newest,
    optimizer_tensors,
    prune,
    random_state,
    restore_optimizer,
    restore_random_state,
    save_checkpoint,
)
from ml.train.control import Control
from ml.train.errors import Cancelled, LostLease, Paused, TrainingFailed
from ml.train.export import export_model
from ml.train.prepare import Prepared
from ml.train.steps import (
    DTYPES,
    choose_precision,
    choose_threads,
    classes_of,
    epoch_order,
    learning_rate,
    loss_of,
    make_optimizer,
)

STEP_EVENT_SECONDS = 0.05
SAVE_SECONDS = 300
"""An epoch may take hours; no more than this much work is ever lost."""
MOST_CLASSES_SHOWN = 50
EVALUATION_BATCH = 512


@dataclass
class Progress:
    """How far the run is; all JSON, and part of every checkpoint."""

    epoch: int = 0
    """Finished epochs."""
    step: int = 0
    """Optimizer steps over all epochs."""
    step_in_epoch: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    seen: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int | None = None
    best_step: int | None = None
    best_loss: float | None = None
    epochs_without_gain: int = 0
    elapsed_seconds: float = 0.0
    epoch_seconds: float = 0.0


class Training:
    def __init__(
        self,
        run: RunDir,
        attempt: int,
        config: NetworkConfig,
        data: Prepared,
        device: torch.device,
        journal: Journal,
    ) -> None:
        self.run_dir = run
        self.attempt = attempt
        self.config = config
        self.data = data
        self.device = device
        self.journal = journal
        self.control = Control(run)
        self.progress = Progress()
        self.group = config.batch_size * config.gradient_accumulation
        self.steps_per_epoch = math.ceil(len(data.train_rows) / self.group)
        self.total_steps = self.steps_per_epoch * config.epochs
        self.dtype = DTYPES[choose_precision(config.precision, device)]
        torch.manual_seed(config.seed)
        network = model.build(data.network)
        shape = data.network["input_shape"]
        torch.set_num_threads(choose_threads(network, shape, config.batch_size))
        self.module = network.to(device)
        self.optimizer = make_optimizer(config, self.module.parameters())
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.last_step_event = 0.0
        self.last_save = time.monotonic()
        self.clock = time.monotonic()

    def train(self) -> dict[str, Any]:
        """Run to the end; the metrics of the exported model. Raises Paused, Cancelled, …"""
        self._resume()
        while self.progress.epoch < self.config.epochs and not self._has_stalled():
            self._train_epoch()
            self._finish_epoch()
        return self._export()

    def elapsed(self) -> float:
        """Training seconds over all attempts, but for what a killed one did after its last save."""
        self._advance_clock()
        return self.progress.elapsed_seconds

    # ── one epoch ────────────────────────────────────────────────────────────────

    def _train_epoch(self) -> None:
        order = epoch_order(self.data.train_rows, self.config.seed, self.progress.epoch + 1)
        self.module.train()
        while self.progress.step_in_epoch < self.steps_per_epoch:
            self._obey()
            start = self.progress.step_in_epoch * self.group
            self._step(order[start : start + self.group])

    def _step(self, rows: np.ndarray) -> None:
        """One optimizer step over one or, with gradient accumulation, several batches."""
        progress, began = self.progress, time.perf_counter()
        rate = learning_rate(self.config, progress.step, self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batches = [self._batch(part) for part in _split(rows, self.config.batch_size)]
        data_seconds = time.perf_counter() - began

        loss = 0.0
        for inputs, targets in batches:
            outputs = self._forward(inputs)
            part = loss_of(self.data.loss_function, outputs, targets) * (len(targets) / len(rows))
            self.scaler.scale(part).backward()  # type: ignore[no-untyped-call]
            loss += part.item()
            if self.data.task == "classification":
                progress.correct += int((classes_of(outputs) == targets).sum())
        self._require_finite("loss", loss)

        self.scaler.unscale_(self.optimizer)
        longest = self.config.max_grad_norm or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(self.module.parameters(), longest))
        if not self.scaler.is_enabled():  # the scaler skips such steps and scales down
            self._require_finite("gradient", norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()

        progress.step += 1
        progress.step_in_epoch += 1
        progress.loss_sum += loss * len(rows)
        progress.seen += len(rows)
        self._report_step(loss, rate, norm, len(rows), data_seconds, time.perf_counter() - began)

    def _finish_epoch(self) -> None:
        """Evaluate, make it durable, and only then tell it."""
        progress = self.progress
        record, confusion = self._evaluate()
        progress.history.append(record)
        progress.epoch += 1
        progress.step_in_epoch = 0
        progress.loss_sum, progress.correct, progress.seen = 0.0, 0, 0
        is_best = self._judge(record["val_loss"])
        self._save(is_best)
        if confusion is not None and len(confusion) <= MOST_CLASSES_SHOWN:
            classes = self.data.preprocess["classes"]
            self.journal.write(
                "evaluated", epoch=record["epoch"], confusion=confusion.tolist(), classes=classes
            )
        self.journal.write("epoch", **record)
        prune(self.run_dir, self.config.keep_checkpoints, progress.best_step)

    def _judge(self, val_loss: float | None) -> bool:
        """Whether this epoch is the best so far; without validation none is better than another."""
        progress = self.progress
        if val_loss is None:
            return False
        if progress.best_loss is None or val_loss < progress.best_loss:
            progress.best_epoch, progress.best_step = progress.epoch, progress.step
            progress.best_loss, progress.epochs_without_gain = val_loss, 0
            return True
        progress.epochs_without_gain += 1
        return False

    def _has_stalled(self) -> bool:
        patience = self.config.early_stopping_patience
        return patience is not None and self.progress.epochs_without_gain >= patience

    # ── evaluation ───────────────────────────────────────────────────────────────

    def _evaluate(self) -> tuple[dict[str, Any], np.ndarray | None]:
        progress, is_classification = self.progress, self.data.task == "classification"
        record: dict[str, Any] = {
            "epoch": progress.epoch + 1,
            "loss": progress.loss_sum / progress.seen,
            "accuracy": progress.correct / progress.seen if is_classification else None,
            "val_loss": None,
            "val_accuracy": None,
        }
        extra: dict[str, Any] = {}
        confusion = None
        if len(self.data.validation_rows):
            outputs, targets = self._validate()
            loss = loss_of(self.data.loss_function, outputs, targets).item()
            self._require_finite("validation loss", loss)
            record["val_loss"] = loss
            if is_classification:
                confusion = self._confusion(outputs, targets)
                record["val_accuracy"] = metrics.accuracy(confusion)
                extra["macro_f1"] = metrics.macro_f1(confusion)
            else:
                extra |= self._errors(outputs, targets)
        self._advance_clock()
        record["extra"] = {**extra, "duration_seconds": round(progress.epoch_seconds, 4)}
        progress.epoch_seconds = 0.0
        return record, confusion

    def _validate(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs and targets of every validation row, on the CPU."""
        self.module.eval()
        outputs, targets = [], []
        size = max(EVALUATION_BATCH, self.config.batch_size)
        with torch.inference_mode():
            for rows in _split(self.data.validation_rows, size):
                if self.control.wanted() == "cancel":
                    raise Cancelled
                inputs, truth = self._batch(rows)
                outputs.append(self._forward(inputs).cpu())
                targets.append(truth.cpu())
        return torch.cat(outputs), torch.cat(targets)

    def _confusion(self, outputs: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
        count = len(self.data.preprocess["classes"])
        return metrics.confusion_matrix(targets.numpy(), classes_of(outputs).numpy(), count)

    def _errors(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float | None]:
        mean, std = self.data.preprocess["target_mean"], self.data.preprocess["target_std"]
        truth = targets.numpy().astype(np.float64) * std + mean
        return metrics.regression_metrics(
            truth, outputs[:, 0].numpy().astype(np.float64) * std + mean
        )

    # ── tensors ──────────────────────────────────────────────────────────────────

    def _batch(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = model.to_tensor(self.data.preprocess, self.data.inputs[rows], self.device)
        return inputs, torch.as_tensor(self.data.targets[rows], device=self.device)

    def _forward(self, inputs: torch.Tensor) -> torch.Tensor:
        is_mixed = self.dtype != torch.float32
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=is_mixed):
            outputs: torch.Tensor = self.module(inputs)
        return outputs.float()

    def _require_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            where = f"step {self.progress.step + 1} (epoch {self.progress.epoch + 1})"
            sentence = f"The {what} became {value} at {where}: try a smaller learning_rate."
            raise TrainingFailed("diverged", sentence)

    # ── what the user and the clock want ─────────────────────────────────────────

    def _obey(self) -> None:
        wanted = self.control.wanted()
        if wanted == "cancel":
            raise Cancelled
        if wanted in ("pause", "checkpoint") or self._is_save_due():
            self._save(is_best=False)
            self.control.obeyed()
        if wanted == "pause":
            raise Paused
        limit = self.config.max_duration_seconds
        if limit is not None and self.elapsed() > limit:
            sentence = f"max_duration_seconds ({limit:g}) was used up in epoch {{}} of {{}}."
            sentence = sentence.format(self.progress.epoch + 1, self.config.epochs)
            raise TrainingFailed("timed_out", sentence)

    def _advance_clock(self) -> None:
        passed, self.clock = time.monotonic() - self.clock, time.monotonic()
        self.progress.elapsed_seconds += passed
        self.progress.epoch_seconds += passed

    def _is_save_due(self) -> bool:
        return time.monotonic() - self.last_save > SAVE_SECONDS

    # ── checkpoints ──────────────────────────────────────────────────────────────

    def _save(self, is_best: bool) -> None:
        progress = self.progress
        self.last_save = time.monotonic()
        folder = checkpoint_path(self.run_dir, progress.step)
        if folder.exists():  # asked to pause right after an epoch's own checkpoint
            return
        self._require_lease()
        self._advance_clock()
        state = {
            **dataclasses.asdict(progress),
            "random": random_state(self.device),
            "scaler": self.scaler.state_dict(),
        }
        weights = copy_tensors(self.module.state_dict())
        memory = copy_tensors(optimizer_tensors(self.optimizer))
        save_checkpoint(self.run_dir, progress.step, Checkpoint(weights, memory, state))
        self.journal.write(
            "checkpoint",
            path=str(folder.relative_to(self.run_dir.path)),
            step=progress.step,
            epoch=progress.epoch,
            size_bytes=sum(file.stat().st_size for file in folder.iterdir()),
            best=is_best,
        )

    def _resume(self) -> None:
        checkpoint = load_newest(self.run_dir, self._warn)
        if checkpoint is not None:
            self._restore(checkpoint)
        progress = self.progress
        self.journal.write(
            "started",
            resumed_from_epoch=progress.epoch,
            resumed_from_step=progress.step,
            total_epochs=self.config.epochs,
            total_steps=self.total_steps,
            history=progress.history,
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        state = dict(checkpoint.state)
        restore_random_state(state.pop("random"), self.device)
        self.scaler.load_state_dict(state.pop("scaler"))
        self.module.load_state_dict(checkpoint.model)
        restore_optimizer(self.optimizer, checkpoint.optimizer)
        self.progress = Progress(**state)

    def _require_lease(self) -> None:
        owner = self.run_dir.lock_owner()
        if owner is not None and owner["attempt"] != self.attempt:
            raise LostLease(f"attempt {owner['attempt']} owns the run now")

    def _warn(self, message: str) -> None:
        self.journal.write("warning", message=message)

    # ── the end ──────────────────────────────────────────────────────────────────

    def _export(self) -> dict[str, Any]:
        """Write model/ with the weights of the best epoch, or of the last without validation."""
        progress, record = self.progress, self.progress.history[-1]
        weights = copy_tensors(self.module.state_dict())
        if progress.best_step is not None and progress.best_step != progress.step:
            folder = checkpoint_path(self.run_dir, progress.best_step)
            if best := load_checkpoint(folder):
                weights, record = best.model, progress.history[(progress.best_epoch or 0) - 1]
            else:
                self._warn(f"The best weights ({folder.name}) are gone; the last ones are used.")
        self._require_lease()
        export_model(self.run_dir, weights, self.data.network, self.data.preprocess)
        found = {**record, **record["extra"], "best_epoch": record["epoch"]}
        for name in ("epoch", "extra", "duration_seconds"):
            found.pop(name)
        return {name: value for name, value in found.items() if value is not None}

    def _report_step(
        self, loss: float, rate: float, norm: float, samples: int, data: float, whole: float
    ) -> None:
        is_last = self.progress.step_in_epoch == self.steps_per_epoch
        if not is_last and time.monotonic() - self.last_step_event < STEP_EVENT_SECONDS:
            return
        self.last_step_event = time.monotonic()
        self.journal.write(
            "step",
            step=self.progress.step,
            epoch=self.progress.epoch + 1,
            loss=loss,
            learning_rate=rate,
            grad_norm=norm,
            samples_per_second=round(samples / whole, 1),
            data_seconds=round(data, 6),
            compute_seconds=round(whole - data, 6),
        )


def _split(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
