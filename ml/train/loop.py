"""The training loop of every recipe that learns step by step, readable from top to bottom.

It knows the run directory and nothing of who started it. A run that is resumed goes
through exactly the steps an undisturbed one would: everything a step depends on is the
configuration, the step's number, or in the checkpoint.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ml import failpoints
from ml.config import GradientConfig
from ml.rundir import Journal, RunDir
from ml.train.checkpoint import (
    checkpoint_path,
    load_checkpoint,
    load_newest,
    prune,
    save_checkpoint,
)
from ml.train.control import Control
from ml.train.errors import Cancelled, LostLease, Paused, TrainingFailed
from ml.train.export import replace_model
from ml.train.ranks import Ranks
from ml.train.state import Progress, State, trained_tensors
from ml.train.steps import (
    epoch_order,
    generator_state,
    learning_rate,
    make_optimizer,
    restore_generator_state,
)
from ml.train.task import Evaluation, Task, split

STEP_EVENT_SECONDS = 0.05
SAVE_SECONDS = 300
"""An epoch may take hours; no more than this much work is ever lost."""


@dataclass(frozen=True)
class StepSeconds:
    """Of one step. On a GPU the optimizer's are those of starting it: nobody waits for its end."""

    whole: float
    data: float
    optimizer: float


class Training:
    def __init__(
        self,
        run: RunDir,
        attempt: int,
        config: GradientConfig,
        task: Task,
        journal: Journal | None,
        ranks: Ranks,
    ) -> None:
        self.run_dir = run
        self.attempt = attempt
        self.config = config
        self.task = task
        self.journal = journal
        self.ranks = ranks
        self.control = Control(run)
        self.group = config.batch_size * config.gradient_accumulation
        self.steps_per_epoch = math.ceil(len(task.train_rows) / self.group)
        self.total_steps = self.steps_per_epoch * config.epochs
        self.parameters = [each for each in task.module.parameters() if each.requires_grad]
        is_half = task.precision == "fp16"
        self.state = State(
            module=task.module,
            optimizer=make_optimizer(config, self.parameters),
            scaler=torch.amp.GradScaler(task.device.type, enabled=is_half),
            device=task.device,
            progress=Progress(micro_batch=config.batch_size),
        )
        torch.set_num_threads(max(1, task.threads // ranks.size))
        if not ranks.is_first:  # the same weights, but dropout of its own
            torch.manual_seed(config.seed + ranks.rank)
        self.evaluation_batch: int | None = None
        self.last_step_event = 0.0
        self.last_save = time.monotonic()
        self.clock = time.monotonic()

    @property
    def progress(self) -> Progress:
        return self.state.progress

    def train(self) -> dict[str, Any]:
        """Run to the end; the metrics of the exported model. Raises Paused, Cancelled, …"""
        self._resume()
        if self.config.early_stopping_patience and not len(self.task.validation_rows):
            self._warn("early_stopping_patience has no effect: nothing is held back.")
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
        order = epoch_order(self.task.train_rows, self.config.seed, self.progress.epoch + 1)
        self.task.module.train()
        while self.progress.step_in_epoch < self.steps_per_epoch:
            self._obey()
            start = self.progress.step_in_epoch * self.group
            self._step(order[start : start + self.group])

    def _step(self, rows: np.ndarray) -> None:
        """One optimizer step over the rows, in as many parts as memory demands."""
        progress, state, began = self.progress, self.state, time.perf_counter()
        rate = learning_rate(self.config, progress.step, self.total_steps)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        drawn = generator_state(state.device)
        while (found := self._gradient(rows)) is None:
            state.optimizer.zero_grad()
            restore_generator_state(drawn, state.device)
            self._need_less_memory()
        loss, correct, data_seconds = found
        self._require_finite("loss", loss, series="loss")

        self.ranks.add_up_gradients(self.parameters)
        state.scaler.unscale_(state.optimizer)
        longest = self.config.max_grad_norm or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, longest))
        if not state.scaler.is_enabled():  # the scaler skips such steps and scales down
            self._require_finite("gradient", norm, series="grad_norm")
        optimizer_began = time.perf_counter()
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.optimizer.zero_grad()
        ended = time.perf_counter()

        weight = self.task.weight(rows)
        progress.step += 1
        progress.step_in_epoch += 1
        progress.loss_sum += loss * weight
        progress.correct += correct
        progress.seen += weight
        seconds = StepSeconds(ended - began, data_seconds, ended - optimizer_began)
        self._report_step(loss, rate, norm, rows, seconds)

    def _gradient(self, rows: np.ndarray) -> tuple[float, float, float] | None:
        """Mean loss, right guesses and seconds spent on data; the gradients are in the weights.

        None when the memory of any process was not enough: then nothing of it counts.
        """
        task, total = self.task, self.task.weight(rows)
        loss = correct = data_seconds = 0.0
        has_failed = False
        try:
            for part in split(self.ranks.deal(rows), self.progress.micro_batch):
                began = time.perf_counter()
                batch = task.batch(part)
                data_seconds += time.perf_counter() - began
                mean, right = task.loss(batch)
                scaled = mean * (task.weight(part) / total)
                self.state.scaler.scale(scaled).backward()  # type: ignore[no-untyped-call]
                loss += scaled.item()
                correct += right.item()
        except torch.OutOfMemoryError:
            has_failed = True
        failed, loss, correct = self.ranks.add_up([has_failed, loss, correct])
        return None if failed else (loss, correct, data_seconds)

    def _need_less_memory(self) -> None:
        """Smaller parts first, then the recipe's own way; a failure with the numbers at last."""
        progress, before = self.progress, self.progress.micro_batch
        if self.state.device.type == "cuda":
            torch.cuda.empty_cache()
        if before > 1:
            progress.micro_batch = before // 2
            told = f"{progress.micro_batch} samples are taken at once instead of {before}"
        elif not progress.saves_memory and self.task.save_memory():
            progress.saves_memory = True
            told = "activations are computed twice instead of kept (gradient_checkpointing)"
        else:
            size = sum(each.numel() for each in self.task.module.parameters())
            raise TrainingFailed(
                "gpu_out_of_memory",
                f"The memory of {self.state.device} is not enough for a single sample and "
                f"{size:,} weights, {sum(each.numel() for each in self.parameters):,} of them "
                "trained: take a smaller model, shorter samples, or LoRA.",
            )
        self._warn(f"The memory of {self.state.device} was used up: from here on {told}.")

    def _finish_epoch(self) -> None:
        """Evaluate, make it durable, and only then tell it."""
        progress = self.progress
        record, events = self.ranks.decide(self._evaluate() if self.ranks.is_first else None)
        progress.history.append(record)
        progress.epoch += 1
        progress.step_in_epoch = 0
        progress.loss_sum, progress.correct, progress.seen = 0.0, 0.0, 0
        is_best = self._judge(record["val_loss"])
        self._save(is_best)
        for kind, fields in events:
            self._tell(kind, epoch=record["epoch"], **fields)
        self._tell("epoch", **record)
        if self.ranks.is_first:
            prune(self.run_dir, self.config.keep_checkpoints, progress.best_step)

    def _evaluate(self) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
        progress, began = self.progress, time.perf_counter()
        found = self._measure()
        validation_seconds = time.perf_counter() - began
        if found.val_loss is not None:
            self._require_finite("validation loss", found.val_loss)
        self._advance_clock()
        record = {
            "epoch": progress.epoch + 1,
            "loss": progress.loss_sum / progress.seen,
            "accuracy": progress.correct / progress.seen if self.task.has_accuracy else None,
            "val_loss": found.val_loss,
            "val_accuracy": found.val_accuracy,
            "extra": {
                **found.extra,
                "duration_seconds": round(progress.epoch_seconds, 4),
                "validation_seconds": round(validation_seconds, 4),
            },
        }
        progress.epoch_seconds = 0.0
        return record, found.events

    def _measure(self) -> Evaluation:
        """Evaluate; where memory runs out begin again with half as many samples at once."""
        if self.evaluation_batch is None:
            self.evaluation_batch = self.task.evaluation_batch(self.progress.micro_batch)
        while True:
            try:
                return self.task.evaluate(self.evaluation_batch, self._before_evaluated_batch)
            except torch.OutOfMemoryError as error:
                self._evaluate_fewer(self.evaluation_batch, error)

    def _evaluate_fewer(self, before: int, error: Exception) -> None:
        device = self.state.device
        if device.type == "cuda":
            torch.cuda.empty_cache()
        if before == 1:
            raise TrainingFailed(
                "gpu_out_of_memory",
                f"The memory of {device} is not enough to evaluate a single sample: take a "
                "smaller model or shorter samples.",
            ) from error
        self.evaluation_batch = before // 2
        self._warn(
            f"The memory of {device} was used up in the evaluation: from here on "
            f"{self.evaluation_batch} samples are evaluated at once instead of {before}."
        )

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

    def _require_finite(self, what: str, value: float, series: str = "") -> None:
        """The step at which a series leaves the numbers is told before the end: it has null."""
        if not math.isfinite(value):
            if series:
                step, epoch = self.progress.step + 1, self.progress.epoch + 1
                self._tell("step", step=step, epoch=epoch, **{series: value})
            where = f"step {self.progress.step + 1} (epoch {self.progress.epoch + 1})"
            sentence = f"The {what} became {value} at {where}: try a smaller learning_rate."
            raise TrainingFailed("diverged", sentence)

    # ── what the user and the clock want ─────────────────────────────────────────

    def _obey(self) -> None:
        wanted = self.ranks.decide(self._wanted() if self.ranks.is_first else None)
        if wanted == "cancel":
            raise Cancelled
        if wanted in ("pause", "checkpoint"):
            self._save(is_best=False)
            self.control.obeyed()
        if wanted == "pause":
            raise Paused
        if wanted == "stop":
            limit, epoch = self.config.max_duration_seconds, self.progress.epoch + 1
            sentence = f"max_duration_seconds ({limit:g}) was used up in epoch {epoch}"
            raise TrainingFailed("timed_out", f"{sentence} of {self.config.epochs}.")

    def _wanted(self) -> str:
        wanted, limit = self.control.wanted(), self.config.max_duration_seconds
        if wanted == "run" and limit is not None and self.elapsed() > limit:
            return "stop"
        is_save_due = time.monotonic() - self.last_save > SAVE_SECONDS
        return "checkpoint" if wanted == "run" and is_save_due else wanted

    def _before_evaluated_batch(self) -> None:
        failpoints.hit("evaluation.before_batch")
        if self.control.wanted() == "cancel":
            raise Cancelled

    def _advance_clock(self) -> None:
        passed, self.clock = time.monotonic() - self.clock, time.monotonic()
        self.progress.elapsed_seconds += passed
        self.progress.epoch_seconds += passed

    # ── checkpoints ──────────────────────────────────────────────────────────────

    def _save(self, is_best: bool) -> None:
        """Called by every rank; the first one writes."""
        progress = self.progress
        self.last_save = time.monotonic()
        self._advance_clock()
        snapshot = self.state.snapshot(self.ranks)
        folder = checkpoint_path(self.run_dir, progress.step)
        # It is there already when a pause was asked for right after an epoch's own checkpoint.
        if not self.ranks.is_first or folder.exists():
            return
        self._require_lease()
        began = time.perf_counter()
        save_checkpoint(self.run_dir, progress.step, snapshot)
        self._tell(
            "checkpoint",
            path=str(folder.relative_to(self.run_dir.path)),
            step=progress.step,
            epoch=progress.epoch,
            size_bytes=sum(file.stat().st_size for file in folder.iterdir()),
            seconds=round(time.perf_counter() - began, 4),
            best=is_best,
        )

    def _resume(self) -> None:
        found = load_newest(self.run_dir, self._warn) if self.ranks.is_first else None
        step = self.ranks.decide(found.state["step"] if found else None)
        if not self.ranks.is_first and step is not None:
            found = load_checkpoint(checkpoint_path(self.run_dir, step))
        if found is not None:
            self.state.restore(found, self.ranks)
        progress = self.progress
        if progress.saves_memory:
            self.task.save_memory()
        self._tell(
            "started",
            resumed_from_epoch=progress.epoch,
            resumed_from_step=progress.step,
            total_epochs=self.config.epochs,
            total_steps=self.total_steps,
            history=progress.history,
        )

    def _require_lease(self) -> None:
        owner = self.run_dir.lock_owner()
        if owner is not None and owner["attempt"] != self.attempt:
            raise LostLease(f"attempt {owner['attempt']} owns the run now")

    # ── what is told ─────────────────────────────────────────────────────────────

    def _tell(self, type: str, **fields: Any) -> None:
        if self.journal is not None:
            self.journal.write(type, **fields)

    def _warn(self, message: str) -> None:
        self._tell("warning", message=message)

    def _report_step(
        self, loss: float, rate: float, norm: float, rows: np.ndarray, seconds: StepSeconds
    ) -> None:
        is_last = self.progress.step_in_epoch == self.steps_per_epoch
        if not is_last and time.monotonic() - self.last_step_event < STEP_EVENT_SECONDS:
            return
        self.last_step_event = time.monotonic()
        tokens = {}
        if self.task.counts_tokens:
            tokens = {"tokens_per_second": round(self.task.weight(rows) / seconds.whole, 1)}
        self._tell(
            "step",
            step=self.progress.step,
            epoch=self.progress.epoch + 1,
            loss=loss,
            learning_rate=rate,
            grad_norm=norm,
            samples_per_second=round(len(rows) / seconds.whole, 1),
            data_seconds=round(seconds.data, 6),
            compute_seconds=round(seconds.whole - seconds.data - seconds.optimizer, 6),
            optimizer_seconds=round(seconds.optimizer, 6),
            **tokens,
        )

    # ── the end ──────────────────────────────────────────────────────────────────

    def _export(self) -> dict[str, Any]:
        """Write model/ with the weights of the best epoch, or of the last without validation."""
        progress, record = self.progress, self.progress.history[-1]
        if not self.ranks.is_first:
            return record
        weights = trained_tensors(self.task.module)
        if progress.best_step is not None and progress.best_step != progress.step:
            folder = checkpoint_path(self.run_dir, progress.best_step)
            if best := load_checkpoint(folder):
                weights, record = best.model, progress.history[(progress.best_epoch or 0) - 1]
            else:
                self._warn(f"The best weights ({folder.name}) are gone; the last ones are used.")
        self._require_lease()
        replace_model(self.run_dir, lambda folder: self.task.export(folder, weights))
        found = {**record, **record["extra"], "best_epoch": record["epoch"]}
        for name in ("epoch", "extra", "duration_seconds", "validation_seconds"):
            found.pop(name)
        return {name: value for name, value in found.items() if value is not None}
